"""Splits whose right answer can be written down."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ecom_tasks.errors import ConfigError, DataContractError
from ecom_tasks.recommendation import protocols
from ecom_tasks.recommendation.protocols import Columns, Protocol

COLUMNS = Columns("who", "what", "at")


def interactions(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["customer_id", "product_id", "order"], orient="row").sort(
        "order"
    )


HISTORY = interactions([
    ("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("bob", "a", 4), ("bob", "b", 5),
    ("eve", "a", 6),
])  # fmt: skip


def test_leave_one_out_keeps_the_last_of_everyone_who_has_two() -> None:
    split = protocols.split(HISTORY, "leave-one-out", None, 0.1)
    assert split.held_out.rows() == [("ann", "c"), ("bob", "b")]
    assert split.known.height == HISTORY.height - 2
    assert not split.repeats


def test_what_the_customer_had_before_is_nothing_to_find() -> None:
    again = interactions([("ann", "a", 1), ("ann", "a", 2), ("bob", "a", 3), ("bob", "b", 4)])
    split = protocols.split(again, "leave-one-out", None, 0.1)
    assert split.held_out.rows() == [("bob", "b")]


def test_time_split_holds_out_the_newest_and_forgets_strangers() -> None:
    later = pl.concat([HISTORY, interactions([("ann", "a", 7), ("ann", "d", 8)])])
    split = protocols.split(later, "time-split", None, 0.5)
    assert split.known["order"].to_list() == [1, 2, 3, 4]
    # Eve is a stranger; what Ann buys again counts.
    assert split.held_out.rows() == [("ann", "a"), ("ann", "d"), ("bob", "b")]
    assert split.repeats


def test_a_time_split_in_which_nobody_known_buys_is_refused() -> None:
    strangers = interactions([("ann", "a", 1), ("bob", "a", 2)])
    with pytest.raises(DataContractError, match="0 are to be found"):
        protocols.split(strangers, "time-split", None, 0.5)


def test_equal_times_stay_on_one_side_of_the_border() -> None:
    same = interactions([("ann", "a", 1), ("bob", "a", 2), ("ann", "a", 3), ("bob", "a", 4)])
    with pytest.raises(DataContractError, match="2 interactions are known and 0 are to be found"):
        protocols.split(same, "leave-one-out", None, 0.1)
    again = protocols.split(same, "time-split", None, 0.5)
    assert again.held_out.rows() == [("ann", "a"), ("bob", "a")]


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split"])
def test_a_test_file_belongs_to_a_given_split(protocol: Protocol) -> None:
    with pytest.raises(ConfigError, match="go together"):
        protocols.split(HISTORY, protocol, HISTORY, 0.1)
    with pytest.raises(ConfigError, match="go together"):
        protocols.split(HISTORY, "given-split", None, 0.1)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_a_share_lies_between_nothing_and_all(share: float) -> None:
    with pytest.raises(ConfigError, match="is no share"):
        protocols.split(HISTORY, "time-split", None, share)


def test_pairs_count_orders_and_know_the_place_of_the_newest() -> None:
    again = interactions([("ann", "a", 1), ("ann", "b", 2), ("ann", "a", 7)])
    found = protocols.pairs(again)
    assert found["orders"].to_list() == [2.0, 1.0]
    assert found["days_since_last_order"].to_list() == [0.0, 1.0]


class TestReading:
    def write(self, folder: Path, **columns: list[object]) -> Path:
        file = folder / "interactions.parquet"
        pl.DataFrame(columns).write_parquet(file)
        return file

    def test_rows_come_oldest_first_and_equal_ones_once(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, who=[1, 2, 1, 2], what=[7, 8, 9, 8], at=[5, 3, 1, 3])
        found = protocols.read(file, COLUMNS)
        assert found.rows() == [("1", "9", 1), ("2", "8", 3), ("1", "7", 5)]

    def test_a_missing_column_is_named_beside_those_there_are(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, who=[1], item=[7], at=[5])
        with pytest.raises(DataContractError, match="no column what") as error:
            protocols.read(file, COLUMNS)
        assert "who, item, at" in str(error.value)
        with pytest.raises(DataContractError, match="no column client, what, day"):
            protocols.read(file, Columns("client", "what", "day"))

    def test_nulls_in_keys_are_counted_and_shown(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, who=[1, None], what=[7, 8], at=[5, 6])
        with pytest.raises(DataContractError, match="1 rows with nulls") as error:
            protocols.read(file, COLUMNS)
        assert error.value.examples[0]["product_id"] == 8

    def test_nulls_in_the_order_are_refused_as_in_ids(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, who=[1, 2, 3], what=[None, 8, 9], at=[5, None, 7])
        with pytest.raises(DataContractError, match="2 rows with nulls in who, what, at"):
            protocols.read(file, COLUMNS)
        file = self.write(tmp_path, who=[1, 2], what=[8, 9], at=[None, None])
        assert protocols.read(file, Columns("who", "what")).height == 2  # at is not asked for

    @pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("us"), pl.Datetime("ms", "UTC")])
    def test_what_lies_in_the_future_is_shown_at_most_five_times(
        self, tmp_path: Path, kind: Any
    ) -> None:
        # The day after tomorrow is future anywhere on earth.
        later = datetime.now(UTC).date() + timedelta(days=2)
        days = pl.Series([date(2020, 1, 1), *[later] * 6]).cast(kind)
        file = self.write(tmp_path, who=range(7), what=range(7), at=days)
        with pytest.raises(DataContractError, match=r"6 rows later than today .* in at") as error:
            protocols.read(file, COLUMNS)
        assert [row["customer_id"] for row in error.value.examples] == [1, 2, 3, 4, 5]
        assert {str(row["order"])[:10] for row in error.value.examples} == {str(later)}

    def test_today_is_no_future(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        for at in (now, now.replace(tzinfo=None), now.date()):
            file = self.write(tmp_path, who=[1], what=[2], at=[at])
            assert protocols.read(file, COLUMNS).height == 1

    def test_numbers_have_no_future(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, who=[1], what=[2], at=[9_999_999_999])
        assert protocols.read(file, COLUMNS)["order"].to_list() == [9_999_999_999]

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, who=[], what=[], at=[])
        with pytest.raises(DataContractError, match="no rows"):
            protocols.read(file, COLUMNS)

    def test_what_is_no_parquet_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "x.parquet"
        file.write_text("who,what\n1,2\n")
        with pytest.raises(ConfigError, match="no Parquet file"):
            protocols.read(file, COLUMNS)
        with pytest.raises(ConfigError, match="no file"):
            protocols.read(tmp_path / "nowhere.parquet", COLUMNS)

    def test_equal_lines_change_nothing_that_follows(self, tmp_path: Path) -> None:
        columns = {"who": ["ann", "ann", "bob", "bob"], "what": ["a", "b", "a", "c"],
                   "at": [1, 2, 1, 3]}  # fmt: skip
        once = protocols.read(self.write(tmp_path, **columns), COLUMNS)
        doubled = {name: [*values, *values] for name, values in columns.items()}
        twice = protocols.read(self.write(tmp_path, **doubled), COLUMNS)
        assert twice.equals(once)
        split = protocols.split(twice, "leave-one-out", None, 0.1)
        assert split.held_out.rows() == [("ann", "b"), ("bob", "c")]
        assert protocols.pairs(split.known)["orders"].to_list() == [1.0, 1.0]


def test_rare_products_are_left_out() -> None:
    frame = pl.DataFrame({"customer_id": ["a", "b", "a"], "product_id": ["x", "x", "y"],
                          "order": [1, 2, 3]})  # fmt: skip
    assert protocols.often(frame, 1).equals(frame)
    assert protocols.often(frame, 2)["product_id"].to_list() == ["x", "x"]
    with pytest.raises(DataContractError, match="No product has 3 interactions"):
        protocols.often(frame, 3)
