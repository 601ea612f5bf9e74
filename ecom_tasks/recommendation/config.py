"""Every dial of the recommendation domain, with its unit."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ecom_tasks.config import DomainConfig


class RecommendationConfig(DomainConfig):
    """Settings of candidate generation, ranker, two-tower model, rules and evaluation."""

    domain: ClassVar[str] = "recommendation"

    seed: int = Field(default=7, description="of every random choice")

    # Time: windows lie between cutoffs of the feature tables.
    window_cutoffs: int = Field(
        default=1, ge=1, description="cutoffs that a window is long; above 1, windows overlap"
    )
    test_windows: int = Field(default=2, ge=1, description="held-out windows, newest last")
    train_windows: int = Field(default=2, ge=1, description="label windows that trees learn")
    network_windows: int = Field(
        default=3, ge=1, description="label windows that the network beside them learns"
    )
    # Which day's models are read is said by the versions of these: no part of them.
    retrain_days: int = Field(
        default=1,
        ge=1,
        exclude=True,
        description="days that models are kept: those of the first day with features of as many "
        "days, counted from Monday, 1 January of the year 1; 7: of each week",
    )

    # Candidate generation
    block_customers: int = Field(
        default=2_500, ge=1, description="customers whose candidates are held in memory at once"
    )
    min_customers: int = Field(
        default=3, ge=1, description="customers that a product needs to be ranked; below: cold"
    )
    repeat_candidates: int = Field(
        default=80, ge=1, description="own past products per customer, best first"
    )
    neighbour_candidates: int = Field(default=25, ge=1, description="new products per customer")
    als_candidates: int = Field(default=20, ge=1, description="new products per customer")
    popular_candidates: int = Field(default=20, ge=1, description="new products per customer")
    matrix_products: int = Field(
        default=8000, ge=2, description="most bought products that neighbours and ALS know"
    )
    neighbours: int = Field(default=100, ge=1, description="kept per product")
    neighbour_weighting: Literal["plain", "tf-idf", "bm25"] = Field(
        default="plain", description="of purchases before products are compared"
    )
    neighbour_shrinkage: float = Field(
        default=10.0, ge=0, description="added to the cosine's denominator; tames rare products"
    )
    als_factors: int = Field(default=48, ge=1, description="dimensions")
    als_iterations: int = Field(default=10, ge=1, description="sweeps")
    als_regularization: float = Field(default=0.05, ge=0, description="L2 weight")
    als_alpha: float = Field(default=5.0, gt=0, description="confidence per unit of log orders")
    ease_candidates: int = Field(default=25, ge=1, description="new products per customer")
    ease_products: int = Field(
        default=4000, ge=2, description="most bought products that EASE knows"
    )
    ease_exact: int = Field(
        default=8000,
        ge=0,
        description="products at most that are solved without leaving anything "
        "out; memory is 8 bytes x its square",
    )
    ease_dimensions: int = Field(
        default=512, ge=1, description="strongest directions kept of more products than that"
    )
    ease_l2: float = Field(default=300.0, gt=0, description="ridge weight, in squared log orders")

    # Further generators, at hand in a backtest
    graph_candidates: int = Field(default=25, ge=1, description="new products per customer")
    graph_dimensions: int = Field(default=256, ge=1, description="smoothest signals kept")
    graph_smooth_weight: float = Field(
        default=0.15, ge=0, description="of the smoothest signals beside direct neighbours"
    )
    graph_sharpening: float = Field(
        default=2.0, ge=0, description="how long blurring runs backwards, in its own time; 0: off"
    )
    graph_popularity: float = Field(
        default=0.05, ge=0, le=1, description="power of a product's degree that multiplies"
    )
    graph_customer_power: float = Field(
        default=0.5, ge=0, le=1, description="power of a customer's degree that divides"
    )
    graph_product_power: float = Field(
        default=0.5, ge=0, le=1, description="power of a product's degree that divides"
    )
    follows_candidates: int = Field(default=25, ge=1, description="new products per customer")
    follows_reach: int = Field(default=10, ge=1, description="places on that still count as after")
    follows_backward: float = Field(
        default=0.3, ge=0, le=1, description="weight of what came before beside what came after"
    )
    follows_shrinkage: float = Field(
        default=100.0, ge=0, description="added to the divisor; tames rare products"
    )
    follows_fading: float = Field(
        default=0.6, ge=0, le=1, description="weight of a product beside the next newer one"
    )
    lookalike_candidates: int = Field(default=25, ge=1, description="new products per customer")
    lookalikes: int = Field(default=300, ge=1, description="nearest customers of each customer")
    lookalike_customers: int = Field(
        default=20_000, ge=1, description="among whom they are looked for, drawn at random"
    )

    # Propagation over purchases and common views
    propagation_candidates: int = Field(default=20, ge=1, description="new products per customer")
    propagation_layers: int = Field(default=3, ge=2, description="steps from a customer's node on")
    propagation_largest_session: int = Field(
        default=50, ge=2, description="products; larger visits say little of what goes together"
    )

    # Sequential transformer
    sequence_candidates: int = Field(default=25, ge=1, description="new products per customer")
    sequence_size: int = Field(default=32, ge=2, description="dimensions; a multiple of the heads")
    sequence_blocks: int = Field(default=2, ge=1, description="layers of attention")
    sequence_heads: int = Field(default=2, ge=1, description="of each layer")
    sequence_length: int = Field(default=50, ge=2, description="newest products read")
    sequence_pieces: int = Field(
        default=2, ge=1, description="newest stretches of that length learnt from, per customer"
    )
    sequence_dropout: float = Field(default=0.2, ge=0, lt=1, description="share left out")
    sequence_negatives: int = Field(
        default=1024, ge=0, description="products drawn to compare with; 0: all products"
    )
    sequence_epochs: int = Field(default=2, ge=1, description="passes over all histories, at most")
    sequence_patience: int = Field(
        default=6, ge=1, description="passes without gain before stopping"
    )
    sequence_batch: int = Field(default=4000, ge=1, description="places learnt from at once")
    sequence_learning_rate: float = Field(default=0.001, gt=0, description="of Adam")
    sequence_refit: bool = Field(
        default=True,
        description="in a backtest with a ranker: train again on all that is known; false: the "
        "model beside which the ranker learnt reads the longer histories",
    )
    sequence_validation: int = Field(
        default=2000, ge=0, description="customers whose last product is held out, to stop by"
    )
    sequence_gaps: bool = Field(
        default=False, description="read the time between two orders too; needs days, not places"
    )
    sequence_bfloat16: bool = Field(
        default=False, description="compute in 16 bits; faster on GPUs and new CPUs"
    )
    # The same training gives the same model, interrupted or not: no part of the version.
    sequence_folder: str = Field(
        default="", exclude=True, description="where an interrupted training is gone on with"
    )

    # Ranker: expected orders first, then LambdaMART on top of it.
    smallest_training: int = Field(
        default=100, ge=1, description="ordered candidates that a ranker needs; fewer: a blend"
    )
    ranker_customers: int = Field(
        default=20_000, ge=1, description="drawn to learn from in each window, at most"
    )
    ranker_validation: int = Field(
        default=4_000,
        ge=1,
        description="customers drawn to choose the number of trees and the network's share by, at "
        "most",
    )
    label_cap: int = Field(default=4, ge=1, description="orders in a window counted at most")
    count_rounds: int = Field(default=140, ge=1, description="trees of expected orders, at most")
    rank_rounds: int = Field(default=15, ge=0, description="trees of LambdaMART, at most")
    unordered_candidates: int = Field(
        default=500_000,
        ge=1,
        description="candidates learnt from in each window, of those not ordered; of more so many "
        "are drawn",
    )
    patience: int = Field(default=15, ge=1, description="rounds without gain before stopping")
    learning_rate: float = Field(default=0.1, gt=0, le=1, description="of the count trees")
    rank_learning_rate: float = Field(default=0.05, gt=0, le=1, description="of the rank trees")
    max_depth: int = Field(default=6, ge=1, description="levels of a tree")
    min_child_weight: float = Field(default=30.0, ge=0, description="expected orders in a leaf")
    column_share: float = Field(default=0.4, gt=0, le=1, description="features tried per tree")
    ranker_seeds: int = Field(
        default=3, ge=1, description="rankers trained alike with other seeds and averaged"
    )
    trees_per_round: int = Field(
        default=1, ge=1, description="trees grown side by side and averaged; steadier, slower"
    )
    row_share: float = Field(default=0.8, gt=0, le=1, description="rows seen per tree")

    # Network beside the ranker's trees
    network_passes: int = Field(
        default=6, ge=0, description="over what it learns from; 0: trees alone"
    )
    network_size: int = Field(
        default=128, ge=2, description="of the first hidden layer; the second has half of it"
    )
    network_batch: int = Field(default=2048, ge=1, description="candidates learnt from at once")
    network_dropout: float = Field(
        default=0.3, ge=0, lt=1, description="share of hidden numbers left out while learning"
    )
    network_learning_rate: float = Field(default=0.002, gt=0, description="of AdamW, at first")

    # Second stage of a backtest
    second_stage_customers: int = Field(
        default=10_000, ge=1, description="drawn to learn from, at most"
    )
    second_stage_rounds: int = Field(default=300, ge=1, description="trees, at most")
    second_stage_child_weight: float = Field(
        default=1.0, ge=0, description="curvature of the loss in a leaf"
    )

    # Two-tower model for products with little history
    embedding_size: int = Field(default=32, ge=2, description="dimensions")
    vocabulary: int = Field(default=8192, ge=64, description="hash buckets of content tokens")
    epochs: int = Field(default=2, ge=1, description="passes over the pairs")
    batch_size: int = Field(default=1024, ge=2, description="pairs")
    largest_sample: int = Field(default=100_000, ge=1, description="pairs per pass, at most")
    fresh_days: int = Field(
        default=28, ge=1, description="a cold product is offered if sold or launched within"
    )

    # What is published
    top_k: int = Field(default=20, ge=1, description="products per customer")
    similar_k: int = Field(default=10, ge=1, description="similar products per product")
    cold_k: int = Field(default=5, ge=1, description="products with little history per customer")
    together_k: int = Field(default=5, ge=1, description="products bought together with each")
    together_min_orders: int = Field(default=10, ge=1, description="orders that a product needs")
    together_min_shared: int = Field(default=3, ge=1, description="orders that a pair needs")
    together_largest_order: int = Field(
        default=100, ge=2, description="products; larger orders say little of what goes together"
    )
    popular_k: int = Field(default=100, ge=1, description="popular products of each group")
    popular_half_life_days: float = Field(
        default=28.0, gt=0, description="after which an order counts half"
    )
    list_buckets: int = Field(
        default=16, ge=1, description="files that the lists are spread over, by customer"
    )
    # Read when lists are made, and its content, not its path, is part of the version.
    rules: str = Field(
        default="", exclude=True, description="path or URI of the rules file; empty: the defaults"
    )

    # Judging
    resamples: int = Field(default=1000, ge=10, description="of the bootstrap over customers")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="level of the intervals")
