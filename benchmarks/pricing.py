"""Pricing on simulated shops whose truth is known: elasticities, cross effects, prices, speed.

    python -m benchmarks.pricing truth --seeds 20 --folder FOLDER
    python -m benchmarks.pricing loop --seeds 20 --folder FOLDER
    python -m benchmarks.pricing logs --products 40 --stores 12 --weeks 60 --folder FOLDER
    python -m benchmarks.pricing speed ...    (see `benchmarks.pricing_speed`)

`truth` estimates 200 products x 30 stores x 104 weeks with confounded prices and compares with the
shop's elasticities: coverage of the 95% intervals, root mean squared error beside plain log-log
least squares with fixed effects a product and store, power and false share of cross effects.
`loop` proposes prices and asks the shop what they earn, beside the historic prices and an oracle
that knows all elasticities and keeps the same rules. `logs` judges proposed prices by the shop's
own history, by each method, and compares with what they would truly have earned in the weeks
compared: profit at proposed prices, and its change beside today's. Each seed is a file in the
folder; seeds that are there are not run again, so that all can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks import pricing_speed

Figures = dict[str, Any]
SCALE = {"products": 200, "stores": 30, "weeks": 104, "customers": 3000}
STRONG_CROSS = 0.3


def truth(seed: int, scale: Figures) -> Figures:
    """Estimate one shop and compare with what is true of it."""
    import numpy as np
    import polars as pl

    from ecom_tasks.pricing import backtest, panel_file, plain
    from ecom_tasks.pricing.config import PricingConfig
    from ecom_tasks.pricing.panel import SERIES
    from ecom_tasks.sample_store import panel, world

    shop = world.create(world.Scale(**scale, seed=seed))
    columns = panel_file.Columns(
        "product", "week", "price", "units", "store", "category",
        ("price_cut", "display", "mailer"),
    )  # fmt: skip
    read = panel_file.check(panel.simulate(shop), columns)
    found, fitted = backtest.run(read, PricingConfig())
    assert fitted is not None
    own = fitted.products.join(
        panel.own_truth(shop).select(pl.col("product").alias("product_id"), "elasticity"),
        on="product_id",
    ).sort("product_id")
    ols = plain.log_log(read.weeks.collect(), SERIES, ["product_id"]).sort("product_id")
    true = own["elasticity"].to_numpy()

    def rmse(estimate: pl.Series) -> float:
        return float(np.sqrt(np.mean((estimate.to_numpy() - true) ** 2)))

    covered = (pl.col("lower") <= pl.col("elasticity")) & (pl.col("elasticity") <= pl.col("upper"))
    cross = fitted.cross.join(
        panel.cross_truth(shop).rename({"product": "product_id", "other": "other_id"}),
        on=["product_id", "other_id"], how="left",
    ).with_columns(pl.col("elasticity").fill_null(0.0))  # fmt: skip
    strong = cross.filter(pl.col("elasticity").abs() > STRONG_CROSS)
    told = cross.filter("found")
    return {
        "seed": seed,
        "covered": own.select(covered.sum()).item(),
        "products": own.height,
        "rmse": rmse(own["estimate"]),
        "rmse_own_data": rmse(own["own_estimate"]),
        "rmse_least_squares": rmse(ols["estimate"]),
        "bias": float((own["estimate"].to_numpy() - true).mean()),
        "standard_error": float(own["error"].mean()),  # type: ignore[arg-type]
        "strong_cross": strong.height,
        "strong_cross_found": int(strong["found"].sum()),
        "cross_found": told.height,
        "cross_false": told.filter(pl.col("elasticity") == 0).height,
        "cross_covered": float(cross.select(covered.mean()).item()),
        "placebo_passed": found["pooled"]["products_passing_placebo"],
        "grades": found["pooled"]["grades"],
        "seconds": found["seconds"],
        "peak_memory_bytes": found["peak_memory_bytes"],
    }


def loop(seed: int, scale: Figures) -> Figures:
    """Price one shop by what its history tells, and ask the shop what that earns."""
    from datetime import timedelta

    import numpy as np
    import polars as pl

    from ecom_tasks.pricing import cross, joint, model, optimise, panel_file, today
    from ecom_tasks.pricing.config import PricingConfig
    from ecom_tasks.pricing.guardrails import Guardrails
    from ecom_tasks.pricing.panel import last_week
    from ecom_tasks.sample_store import panel, world

    # What is expected to earn more is taken, however unsure: the loop asks what that is worth.
    config = PricingConfig(sure_enough=0.5)
    shop = world.create(world.Scale(**scale, seed=seed))
    columns = panel_file.Columns(
        "product", "week", "price", "units", "store", "category",
        ("price_cut", "display", "mailer"),
    )  # fmt: skip
    weeks = panel_file.check(panel.simulate(shop), columns).weeks.collect()
    fitted = model.fit(weeks, last_week(weeks) + timedelta(weeks=1), config)
    costs = pl.DataFrame({"product_id": shop.product_ids, "unit_cost": shop.cost})
    positions = today.positions(weeks, costs, config)

    def priced(answers: pl.DataFrame, pairs: pl.DataFrame) -> Any:
        rows = optimise.at_current_prices(positions, answers, config)
        chosen = joint.choose(rows, pairs, Guardrails(), config, seed)
        proposed = optimise.propose_all(positions, answers.drop("shared_error"), config,
                                        chosen.prices)  # fmt: skip
        return proposed.sort("product_id")

    needed = ["product_id", "estimate", "error", "lower", "upper", "grade", "why", "shared_error"]
    told = priced(fitted.products.select(needed), fitted.cross)
    # The oracle knows every elasticity, and keeps the same rules.
    true = shop.elasticity.diagonal()
    knowing = fitted.products.sort("product_id").select(needed).with_columns(
        pl.Series("estimate", true), error=pl.lit(1e-6), lower=pl.Series(true),
        upper=pl.Series(true), grade=pl.lit("strong"), shared_error=pl.lit(0.0),
    )  # fmt: skip
    effects = panel.cross_truth(shop).select(
        pl.col("product").alias("product_id"), pl.col("other").alias("other_id"),
        pl.col("elasticity").alias("estimate"), pl.lit(value=True).alias("found"),
    )  # fmt: skip
    best = priced(knowing, effects)
    assert cross.PAIR == ["product_id", "other_id"]
    historic, ours, oracle = (
        shop.profit(frame[name].to_numpy())
        for frame, name in (
            (told, "current_price"), (told, "proposed_price"), (best, "proposed_price"),
        )
    )  # fmt: skip
    return {
        "seed": seed,
        "historic": historic,
        "proposed": ours,
        "oracle": oracle,
        "share_of_gain": (ours - historic) / (oracle - historic),
        "changed": int((told["change"] != 0).sum()),
        "expected": float(told["profit_change"].sum()),
        "same_direction": float(
            np.mean(np.sign(told["change"].to_numpy()) == np.sign(best["change"].to_numpy()))
        ),
    }


def told_loop(results: list[Figures]) -> Figures:
    """Sum up all seeds."""
    share = [each["share_of_gain"] for each in results]
    return {
        "seeds": len(results),
        "share_of_gain": sum(share) / len(share),
        "share_of_gain_lowest": min(share),
        "seeds_under_historic": sum(each["proposed"] < each["historic"] for each in results),
        "profit_over_historic": sum(each["proposed"] / each["historic"] for each in results)
        / len(results),
        "oracle_over_historic": sum(each["oracle"] / each["historic"] for each in results)
        / len(results),
    }


def logs(seed: int, scale: Figures) -> Figures:
    """Judge one shop's proposed prices by its log, and ask the shop what is true of that."""
    from datetime import timedelta

    import polars as pl

    from ecom_tasks.metrics import off_policy
    from ecom_tasks.pricing import joint, logged, model, optimise, panel_file, today
    from ecom_tasks.pricing.config import PricingConfig
    from ecom_tasks.pricing.guardrails import Guardrails
    from ecom_tasks.pricing.panel import SERIES, WEEK, last_week
    from ecom_tasks.sample_store import panel, weeks, world

    config = PricingConfig()
    shop = world.create(world.Scale(**scale, seed=seed))
    columns = panel_file.Columns(
        "product", "week", "price", "units", "store", "category",
        ("price_cut", "display", "mailer"),
    )  # fmt: skip
    frames, wanted = [], []
    for week in weeks.live(shop):
        frames.append(panel.of_week(shop, week))
        wanted.append(frames[-1].select(
            pl.col("product").alias("product_id"), pl.col("store").alias("location_id"),
            pl.col("week").alias(WEEK), pl.Series("wanted", week.expected.ravel()),
        ))  # fmt: skip
    rows = panel_file.check(pl.concat(frames), columns).weeks.collect().sort(*SERIES, WEEK)
    learnt = model.learn(rows, last_week(rows) + timedelta(weeks=1), config)
    fitted = model.pool([learnt.told], config)
    costs = pl.DataFrame({"product_id": shop.product_ids, "unit_cost": shop.cost})
    answers = fitted.products.select("product_id", "estimate", "error", "lower", "upper", "grade",
                                     "why", "shared_error")  # fmt: skip
    positions = today.positions(rows, costs, config)
    shared = optimise.at_current_prices(positions, answers, config)
    chosen = joint.choose(shared, fitted.cross, Guardrails(), config, seed)
    prices = optimise.propose_all(positions, answers.drop("shared_error"), config, chosen.prices)
    changed = prices.filter(pl.col("change") != 0)
    assert learnt.solved is not None
    decisions = logged.decisions(learnt.solved)

    def judged(log: pl.DataFrame, elasticity: pl.DataFrame) -> pl.DataFrame:
        asked = changed.drop("elasticity").join(elasticity, on="product_id")
        cells = logged.add_up(log, asked, config, None)
        return logged.judge([cells], config).filter(pl.col("scope") == logged.ALL)

    found = judged(decisions, changed.select("product_id", "elasticity"))
    # The direct method with a model that is the truth, in the same weeks.
    own = panel.own_truth(shop).select(pl.col("product").alias("product_id"), "elasticity")
    knowing = decisions.join(pl.concat(wanted), on=[*SERIES, WEEK]).join(own, on="product_id")
    back = (-pl.col("elasticity") * pl.col("offset")).exp()
    knowing = knowing.with_columns((pl.col("wanted") * back).alias("expected"))
    knowing = knowing.drop("elasticity")
    true = judged(knowing, own).filter(pl.col("method") == off_policy.DIRECT).row(0, named=True)
    methods = {}
    for row in found.iter_rows(named=True):
        methods[row["method"]] = {
            "value_covered": row["lower"] <= true["value"] <= row["upper"],
            "value_error": row["value"] / true["value"] - 1,
            "change_covered": row["change_lower"] <= true["change"] <= row["change_upper"],
            "change_error": (row["change"] - true["change"]) / true["value_now"],
            "half_width": (row["change_upper"] - row["change_lower"]) / 2 / true["value_now"],
            "verdict": row["verdict"],
        }
    first = found.row(0, named=True)
    return {
        "seed": seed, "changed": changed.height, "decisions": first["decisions"],
        "compared_share": first["compared_share"], "mean_weight": first["mean_weight"],
        "effective_decisions": first["effective_decisions"],
        "true_change": true["change"] / true["value_now"], "methods": methods,
    }  # fmt: skip


def told_logs(results: list[Figures]) -> Figures:
    """Sum up all seeds."""

    def squares(method: str, name: str) -> float:
        total: float = sum(each["methods"][method][name] ** 2 for each in results)
        return math.sqrt(total / len(results))

    def share(method: str, name: str) -> float:
        total: float = sum(each["methods"][method][name] for each in results)
        return total / len(results)

    return {
        "seeds": len(results),
        "true_change": sum(each["true_change"] for each in results) / len(results),
        **{
            method: {
                "value_covered": share(method, "value_covered"),
                "change_covered": share(method, "change_covered"),
                "value_rmse": squares(method, "value_error"),
                "change_rmse": squares(method, "change_error"),
                "half_width": share(method, "half_width"),
            }
            for method in results[0]["methods"]
        },
    }


def each_seed(name: str, work: Any, seeds: int, folder: Path, scale: Figures) -> list[Figures]:
    """Run what is not in the folder yet; return all."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in range(seeds):
        path = folder / f"{name}-{seed:03d}.json"
        if not path.exists():
            unfinished = path.with_suffix(".part")
            unfinished.write_text(json.dumps(work(seed, scale)))
            unfinished.rename(path)
        results.append(json.loads(path.read_text()))
        print(json.dumps(results[-1]), flush=True)
    return results


def told_truth(results: list[Figures]) -> Figures:
    """Sum up all seeds."""
    total = {key: sum(each[key] for each in results)
             for key in ("covered", "products", "strong_cross", "strong_cross_found",
                         "cross_found", "cross_false")}  # fmt: skip
    ratio = [each["rmse"] / each["rmse_least_squares"] for each in results]
    return {
        "seeds": len(results),
        "coverage": total["covered"] / total["products"],
        "coverage_lowest_seed": min(each["covered"] / each["products"] for each in results),
        "rmse": (sum(each["rmse"] ** 2 for each in results) / len(results)) ** 0.5,
        "rmse_over_least_squares": sum(ratio) / len(ratio),
        "rmse_over_least_squares_worst": max(ratio),
        "cross_found_of_strong": total["strong_cross_found"] / max(total["strong_cross"], 1),
        "cross_false_of_found": total["cross_false"] / max(total["cross_found"], 1),
        "seconds_a_seed": sum(each["seconds"] for each in results) / len(results),
        "peak_memory_bytes": max(each["peak_memory_bytes"] for each in results),
    }


def main() -> None:
    """Run one part."""
    if sys.argv[1:2] == ["speed"]:
        pricing_speed.main(sys.argv[2:])
        return
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("part", choices=["truth", "loop", "logs"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--folder", type=Path, required=True)
    for name, value in SCALE.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    scale = {name: getattr(arguments, name) for name in SCALE}
    work, told = {
        "truth": (truth, told_truth), "loop": (loop, told_loop), "logs": (logs, told_logs),
    }[arguments.part]  # fmt: skip
    results = each_seed(arguments.part, work, arguments.seeds, arguments.folder, scale)
    print(json.dumps(told(results), indent=2))


if __name__ == "__main__":
    main()
