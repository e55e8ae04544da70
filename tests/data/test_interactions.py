from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.data import Interactions
from mtsearch.data.interactions import canonical_order
from mtsearch.errors import MalformedData

pytestmark = pytest.mark.quick

Row = tuple[str, str, float, int]

ids = st.text(max_size=3) | st.sampled_from(["1", "10", "2", "é", "\U0001f600", "\uffff", ""])
stars = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = st.tuples(ids, ids, stars, st.integers(-(2**63), 2**63 - 1))
tables = st.lists(rows, min_size=1, max_size=30)


def table(data: list[Row], catalogue: list[str] | None = None) -> Interactions:
    users, items, ratings, timestamps = zip(*data, strict=True)
    return Interactions.from_columns(
        users, items, np.array(ratings, np.float32), np.array(timestamps, np.int64), catalogue
    )


def decoded(interactions: Interactions) -> list[Row]:
    data = interactions.rows
    return list(
        zip(
            interactions.user_ids[data.users].tolist(),
            interactions.item_ids[data.items].tolist(),
            data.ratings.tolist(),
            data.timestamps.tolist(),
            strict=True,
        )
    )


@given(tables)
def test_the_rows_come_back_sorted_by_user_item_timestamp_rating(data: list[Row]) -> None:
    assert decoded(table(data)) == sorted(data, key=lambda row: (row[0], row[1], row[3], row[2]))


@given(
    st.lists(
        st.tuples(st.integers(0, 2**31 - 1) | st.integers(0, 2), st.integers(0, 2), st.integers(-1, 1)), max_size=40
    )
)
def test_the_canonical_order_is_that_of_a_lexsort(data: list[tuple[int, int, int]]) -> None:
    users, items, times = (np.array(column, np.int32) for column in (zip(*data, strict=True) if data else ((), (), ())))
    order = canonical_order(users, items, times, -times % 2)
    assert order.tolist() == np.lexsort((-times % 2, times, items, users)).tolist()


@given(tables, st.data())
def test_any_order_of_the_rows_is_the_same_table(data: list[Row], draw: Any) -> None:
    first, second = table(data), table(draw.draw(st.permutations(data)))
    assert first.fingerprint == second.fingerprint
    assert decoded(first) == decoded(second)
    assert [column.tobytes() for column in first.rows.columns] == [column.tobytes() for column in second.rows.columns]


@given(tables, st.data())
def test_any_changed_cell_changes_the_fingerprint(data: list[Row], draw: Any) -> None:
    row, column = draw.draw(st.integers(0, len(data) - 1)), draw.draw(st.integers(0, 3))
    other = draw.draw(rows.filter(lambda candidate: candidate[column] != data[row][column]))
    changed = list(data[row])
    changed[column] = other[column]
    assert table(data).fingerprint != table([*data[:row], tuple(changed), *data[row + 1 :]]).fingerprint


def test_ids_that_run_together_are_told_apart() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    assert len({table([(user, item, 1, 1)]).fingerprint for user, item in pairs}) == len(pairs)


def test_neighbouring_ids_that_run_together_are_told_apart() -> None:
    first, second = (table([(a, "i", 1, 1), (b, "i", 1, 1)]) for a, b in (("a", "bc"), ("ab", "c")))
    assert first.fingerprint != second.fingerprint


def test_a_row_that_is_there_twice_counts_twice() -> None:
    assert table([("u", "i", 1, 1)] * 2).fingerprint != table([("u", "i", 1, 1)]).fingerprint


@given(tables, st.lists(ids))
def test_the_catalogue_adds_items_and_leaves_the_fingerprint(data: list[Row], catalogue: list[str]) -> None:
    plain, listed = table(data), table(data, catalogue)
    assert listed.fingerprint == plain.fingerprint
    assert plain.catalogue is None
    assert listed.catalogue is not None
    assert listed.item_ids[listed.catalogue].tolist() == sorted(set(catalogue))
    assert listed.item_ids.tolist() == sorted({row[1] for row in data} | set(catalogue))


def test_both_zeros_are_one_rating() -> None:
    assert table([("u", "i", 0.0, 1)]).fingerprint == table([("u", "i", -0.0, 1)]).fingerprint


def test_the_columns_have_the_promised_types_and_cannot_be_written() -> None:
    made = table([("u", "i", 1, 1)], ["i"])
    assert [column.dtype for column in made.rows.columns] == [np.int32, np.int32, np.float32, np.int64]
    with pytest.raises(ValueError, match="read-only"):
        made.rows.ratings[0] = 5


@pytest.mark.parametrize("rating", [np.nan, np.inf, -np.inf])
def test_a_rating_without_end_is_refused(rating: float) -> None:
    with pytest.raises(MalformedData, match="row 2, column rating"):
        table([("u", "i", 1, 1), ("u", "j", rating, 1)])


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(MalformedData, match=r"\[2, 1, 1, 1\]"):
        Interactions.from_columns(["u", "v"], ["i"], np.ones(1, np.float32), np.ones(1, np.int64))
