"""Pricing, top to bottom: weekly panel -> elasticities -> judgement and prices -> release.

What each task does stands in the file of its stage (`steps`). No customer attribute enters a price:
the panel has products, places and weeks.
"""

from __future__ import annotations

from ecom_tasks.pricing.steps.inputs import (
    pin_features,
    pin_forecasts,
    pin_guardrails,
    pin_price_log,
)
from ecom_tasks.pricing.steps.judgement import compare_groups, judge_by_logs
from ecom_tasks.pricing.steps.learning import estimate_elasticities, evaluate_elasticities
from ecom_tasks.pricing.steps.proposals import propose_prices
from ecom_tasks.pricing.steps.release import publish_release
from ecom_tasks.pricing.steps.together import find_bought_together
from ecom_tasks.pricing.steps.weekly import build_panel
from ecom_tasks.run import Ref, Step


def flow(step: Step) -> Ref:
    """Features -> panel -> elasticities and their judgement -> prices and theirs -> release."""
    features = step(pin_features)
    panel = step(build_panel, features)
    elasticities = step(estimate_elasticities, panel, step(find_bought_together, features))
    evaluation = step(evaluate_elasticities, panel)
    prices = step(
        propose_prices, panel, elasticities, step(pin_guardrails), features, step(pin_forecasts)
    )
    off_policy = step(judge_by_logs, elasticities, prices, step(pin_price_log))
    groups = step(compare_groups, features)
    return step(publish_release, elasticities, evaluation, prices, off_policy, groups)
