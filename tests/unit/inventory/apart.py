"""Train here and on a cluster of two processes, and print how forecasts differ; run by a test."""

from __future__ import annotations

import json
import sys

import numpy as np

from ecom_tasks.inventory import forecast
from tests.unit.inventory import shop


def main() -> None:
    random = np.random.default_rng(0)
    level = random.uniform(5, 50, size=(60, 1))
    units = random.poisson(level * (1 + 0.3 * np.sin(np.arange(40) / 3)), size=(60, 40)) + 1.0
    found = []
    for distributed in (False, True):
        config = shop.small(history=8, distributed=distributed)
        panel = shop.panel(units, config)
        models = forecast.fit(panel, config)
        ahead = forecast.rows_ahead(panel, panel.periods, config)
        found.append((
            forecast.predict_mean(models.mean, ahead, 2),
            forecast.predict_quantiles(models.quantiles, ahead, 2),
        ))
    here, apart = found
    sys.stdout.write(
        json.dumps({
            "mean": float(np.abs(apart[0] / here[0] - 1).mean()),
            "bias": float(apart[0].sum() / here[0].sum() - 1),
            "quantiles": float((np.abs(apart[1] - here[1]) / here[0][..., None]).mean()),
            "ascending": bool((np.diff(apart[1], axis=-1) >= 0).all()),
            "equal": bool(np.array_equal(apart[0], here[0])),
        })
    )


if __name__ == "__main__":
    main()
