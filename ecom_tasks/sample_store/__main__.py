"""Write a simulated shop: `python -m ecom_tasks.sample_store FOLDER [--products N ...]`.

With `--panel FILE` only its weekly panel is written, and the truth beside it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from ecom_tasks.sample_store import panel, tables, world


def main(argv: list[str] | None = None) -> int:
    """Write the files; say how many rows there are."""
    parser = argparse.ArgumentParser(prog="python -m ecom_tasks.sample_store", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the tables are written")
    parser.add_argument(
        "--panel", action="store_true", help="write panel.parquet and truth, not the shop's tables"
    )
    for field in fields(world.Scale):
        kind = float if field.name in {"units", "confounding"} else int
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    given = vars(parser.parse_args(argv))
    folder, only_panel = given.pop("folder"), given.pop("panel")
    try:
        shop = world.create(world.Scale(**given))
    except ValueError as error:
        parser.error(str(error))
    folder.mkdir(parents=True, exist_ok=True)
    if only_panel:
        rows = panel.write(shop, folder / "panel.parquet")
        panel.own_truth(shop).write_parquet(folder / "own.parquet")
        panel.cross_truth(shop).write_parquet(folder / "cross.parquet")
    else:
        rows = tables.write(shop, folder)
    sys.stdout.write(f"{rows:,} {'rows' if only_panel else 'order lines'} in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
