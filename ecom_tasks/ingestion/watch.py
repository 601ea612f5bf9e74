"""What a source's files look like from outside: cheap to ask again and again."""

from __future__ import annotations

from ecom_tasks.errors import DataContractError
from ecom_tasks.ingestion import inputs
from ecom_tasks.ingestion.sources import load_source

Glance = dict[str, str]
"""`input: file` -> size and time of its last change, or the tag of an object."""


def glance(source: str, data: str = "") -> Glance:
    """List the source's files, without reading them.

    A file that is not there yet is left out; a query to a database cannot be seen from outside.

    Parameters
    ----------
    source, data : see `run.Run`
    """
    loaded = load_source(source, data)
    seen = {}
    for name, each in loaded.specification.inputs.items():
        if each.is_database:
            continue
        try:
            stamps = inputs.stamps(loaded, name)
        except DataContractError:
            continue
        seen.update({f"{name}: {file}": stamp for file, stamp in stamps.items()})
    return seen


def changed(before: Glance, now: Glance) -> list[str]:
    """Return what is new, gone or different, sorted."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
