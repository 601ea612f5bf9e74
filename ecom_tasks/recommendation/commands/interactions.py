"""Which file of interactions is split in which way, for which generators."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ecom_tasks.errors import ConfigError

if TYPE_CHECKING:
    from ecom_tasks.recommendation.protocols import Split


def add_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--interactions", type=Path, required=required, metavar="FILE.parquet")
    parser.add_argument("--customer", required=required, metavar="COLUMN")
    parser.add_argument("--product", required=required, metavar="COLUMN")
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--time", default="", metavar="COLUMN", help="when it happened")
    order.add_argument("--position", default="", metavar="COLUMN", help="its place in a history")
    parser.add_argument("--event", default="", metavar="COLUMN",
                        help="its kind, such as view: the generator sequence reads it")  # fmt: skip
    parser.add_argument("--protocol", required=required,
                        choices=["leave-one-out", "time-split", "given-split"])  # fmt: skip
    parser.add_argument("--test", type=Path, metavar="FILE.parquet", help="for given-split")
    parser.add_argument("--share", type=float, default=0.1, help="of the newest interactions, "
                        "for time-split (default: 0.1)")  # fmt: skip
    parser.add_argument("--min-interactions", type=int, default=1, metavar="N",
                        help="leave out products with fewer in the file (default: 1)")  # fmt: skip
    parser.add_argument("--generators", nargs="+", metavar="NAME",
                        help="default: all; a wrong name lists them")  # fmt: skip


def split(arguments: argparse.Namespace) -> Split:
    """Read the file and split it.

    Raises
    ------
    ConfigError, DataContractError
        The arguments do not go together, or the file does not hold what they name.
    """
    from ecom_tasks.recommendation import protocols

    columns = protocols.Columns(
        arguments.customer,
        arguments.product,
        arguments.time or arguments.position,
        arguments.event,
    )
    if arguments.protocol != "given-split" and not columns.order:
        raise ConfigError(
            f"{arguments.protocol} needs to know which interaction came last",
            "Give --time or --position with the name of a column",
        )
    interactions = protocols.often(
        protocols.read(arguments.interactions, columns), arguments.min_interactions
    )
    # The columns of the order need not be in a file of which all rows must be found.
    unordered = protocols.Columns(arguments.customer, arguments.product)
    test = protocols.read(arguments.test, unordered) if arguments.test else None
    return protocols.split(interactions, arguments.protocol, test, arguments.share)
