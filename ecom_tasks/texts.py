"""Texts of frames, and what keeps hold of them."""

from __future__ import annotations

import polars as pl


def own(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the same frame with texts of its own.

    What is taken out of a frame, its distinct customers say, keeps hold of the texts of all its
    rows. Where little is taken out of each of many frames, that is the texts of them all.
    """
    plainly = pl.CompatLevel.oldest()  # as one text after the other, so that they are copied
    return frame.with_columns(
        pl.Series(name, frame[name].to_arrow(compat_level=plainly), dtype=pl.String)
        for name, dtype in frame.schema.items()
        if dtype == pl.String
    )
