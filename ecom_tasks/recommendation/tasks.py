"""Recommendation, top to bottom: what each task does stands in the file of its stage.

Light to import, since the scheduler reads this file: heavy libraries load inside the tasks.
"""

from __future__ import annotations

from ecom_tasks.recommendation.steps.inputs import pin_features, pin_learning, pin_rules
from ecom_tasks.recommendation.steps.newcomers import train_two_tower
from ecom_tasks.recommendation.steps.proposals import generate_candidates, train_sequence
from ecom_tasks.recommendation.steps.ranking import evaluate_ranker, train_ranker
from ecom_tasks.recommendation.steps.release import publish_release
from ecom_tasks.recommendation.steps.scores import score_customers
from ecom_tasks.recommendation.steps.together import find_bought_together
from ecom_tasks.run import Ref, Step


def flow(step: Step) -> Ref:
    """Features -> candidates, two towers -> ranker -> judgement -> lists under the shop's rules."""
    features = step(pin_features)
    rules = step(pin_rules, features)
    learnt = step(pin_learning, features)
    follows = step(train_sequence, learnt)
    proposed = step(generate_candidates, learnt, follows)
    towers = step(train_two_tower, learnt)
    together = step(find_bought_together, features)
    ranker = step(train_ranker, learnt, proposed)
    evaluation = step(evaluate_ranker, learnt, ranker)
    scores = step(score_customers, features, learnt, proposed, ranker, follows)
    return step(
        publish_release, features, rules, evaluation,
        proposed, ranker, towers, together, follows, scores,
    )  # fmt: skip
