"""What a run starts from: today's features, the shop's rules, earlier forecasts, drawn prices."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.run import Ref, Run

if TYPE_CHECKING:
    from ecom_tasks.artefacts.dataset import Draft

GUARDRAILS, ODDS = "guardrails.json", "odds.parquet"
FORECASTS = "artefacts/inventory"


def pin_features(run: Run) -> Ref:
    """Find the features of the day, so that every later task reads the same rows."""
    from ecom_tasks.artefacts import dataset

    return dataset.find(run, "features/all")


def pin_guardrails(run: Run) -> Ref:
    """Read the rules that products keep together; their content names the version."""
    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import guardrails

    path = PricingConfig.of(run).guardrails
    read = guardrails.parse(dataset.read_text(path) if path else "", path or "the defaults")

    def build(draft: Draft) -> None:
        draft.write_json(GUARDRAILS, read.model_dump(mode="json"))

    return dataset.produce(run, "work/pricing/guardrails", build, config=read)


def pin_forecasts(run: Run) -> Ref:
    """Find the forecasts that were in service before this day: those of the day may be under way.

    The same day run again finds the same, whatever was released meanwhile.
    """
    from ecom_tasks.artefacts import dataset, release

    made = release.served_by_day(run.root, FORECASTS, run.as_of)[:1]

    def build(draft: Draft) -> None:
        draft.metrics["forecasts"] = dataset.manifest(made[0]).version if made else ""

    return dataset.produce(run, "work/pricing/forecasts", build, inputs=made)


def pin_price_log(run: Run) -> Ref:
    """Read the odds of prices that were drawn by lot; their content names the version."""
    from pydantic import BaseModel

    from ecom_tasks.artefacts import dataset
    from ecom_tasks.pricing import logged

    class Content(BaseModel):
        sha256: str

    path = PricingConfig.of(run).price_log
    odds = logged.checked_odds(dataset.read_parquet(path), path) if path else None
    sha256 = "" if odds is None else hashlib.sha256(odds.write_csv().encode()).hexdigest()

    def build(draft: Draft) -> None:
        if odds is not None and odds.height:
            draft.write_frame(ODDS, odds)

    return dataset.produce(run, "work/pricing/price_log", build, config=Content(sha256=sha256))
