"""Settings of the demonstration: every part of every flow, with less of it where it takes long.

Whoever runs a flow without them gets the defaults, which are more accurate and take longer, and
which let a person approve large price moves.
"""

from __future__ import annotations

QUICK: dict[str, dict[str, object]] = {
    # It goes to its end by itself.
    "gate": {
        "approve_price_move": None, "approve_order_value": None, "approve_order_weeks": None,
    },
    # As many cutoffs as two windows to learn from and two to be judged by need.
    "features": {"snapshots": 5},
    "recommendation": {
        "sequence_size": 16, "sequence_blocks": 1, "sequence_epochs": 1, "sequence_pieces": 1,
        "epochs": 1, "largest_sample": 30_000,
        "als_iterations": 5, "ease_products": 2000, "count_rounds": 90, "rank_rounds": 10,
        "unordered_candidates": 40_000, "ranker_seeds": 1, "network_passes": 2,
    },
    "inventory": {
        "training_rows": 120_000, "quantile_rows": 15_000, "samples": 300, "simulated_paths": 5,
        "network_rows": 6000, "network_epochs": 6,
    },
}  # fmt: skip
