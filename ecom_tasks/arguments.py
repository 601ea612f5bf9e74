"""Arguments that commands of several modules take."""

from __future__ import annotations

import argparse
import os
from datetime import date


def day(text: str) -> date:
    """Read a day; argparse tells the user what is wrong with it."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day like 2017-11-30") from error


def add_root(parser: argparse.ArgumentParser) -> None:
    """Ask where artefacts lie."""
    parser.add_argument("--root", default=os.environ.get("ECOM_ROOT", ""),
                        help="s3://bucket/prefix or file:///folder; else ECOM_ROOT")  # fmt: skip
