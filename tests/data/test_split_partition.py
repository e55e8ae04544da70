"""Splits by time and by a column, compared with their definition applied row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.data import Interactions, Split, load, make_split
from mtsearch.errors import MalformedData
from mtsearch.study_file.sections import DataSection, SplitSection

pytestmark = pytest.mark.quick

Key = tuple[str, str, int, float]

triples = st.tuples(st.sampled_from("abcd"), st.sampled_from("xyzvw"), st.integers(0, 6))
tables = st.lists(triples, min_size=12, max_size=60)


def table(rows: list[tuple[str, str, int]]) -> Interactions:
    """Make a table whose ratings are the numbers of its rows, so that each row can be recognised."""
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_columns(users, items, np.arange(len(rows), dtype=np.float32), np.array(times, np.int64))


def keys(split: Split, part: str) -> list[Key]:
    rows = getattr(split, part)
    users, items = split.user_ids[rows.users].tolist(), split.item_ids[rows.items].tolist()
    return list(zip(users, items, rows.timestamps.tolist(), rows.ratings.tolist(), strict=True))


def canonical(rows: list[tuple[str, str, int]]) -> list[Key]:
    return sorted((user, item, time, float(number)) for number, (user, item, time) in enumerate(rows))


def by_hand(rows: list[tuple[str, str, int]], section: SplitSection) -> dict[str, list[Key]]:
    """Split each group in time order, equal times as in the table: the last rows to test, those before to validate."""
    groups: dict[str, list[Key]] = {}
    for row in canonical(rows):
        groups.setdefault("" if section.method == "temporal" else row[0], []).append(row)
    parts: dict[str, list[Key]] = {"train": [], "validation": [], "test": []}
    for group in groups.values():
        group.sort(key=lambda row: row[2])
        if section.method == "leave_last":
            tested = min(section.k or 1, len(group) - 1)
            validated = min(section.k or 1, len(group) - 1 - tested)
        else:
            tested = round(section.test * len(group))
            assert isinstance(section.validation, float)
            validated = round(section.validation * (len(group) - tested))
        kept = len(group) - tested - validated
        parts["train"] += group[:kept]
        parts["validation"] += group[kept : kept + validated]
        parts["test"] += group[kept + validated :]
    return {name: sorted(part) for name, part in parts.items()}


sections = st.one_of(
    st.builds(SplitSection, method=st.sampled_from(["temporal", "temporal_user"]),
              test=st.floats(0.1, 0.5), validation=st.floats(0.1, 0.5)),
    st.builds(SplitSection, method=st.just("leave_last"), k=st.none() | st.integers(1, 3)),
)  # fmt: skip


@given(tables, sections)
def test_by_time(rows: list[tuple[str, str, int]], section: SplitSection) -> None:
    wanted = by_hand(rows, section)
    timeless = len({time for _, _, time in rows}) == 1
    if timeless or not all(wanted.values()):
        with pytest.raises(MalformedData):
            make_split(table(rows), section)
        return
    split = make_split(table(rows), section)
    assert {part: keys(split, part) for part in wanted} == wanted
    if section.method == "temporal":
        assert max(keys(split, "train"), key=lambda row: row[2])[2] <= min(row[2] for row in keys(split, "test"))
    final = split.final()
    direct = make_split(table(rows), section.model_copy(update={"validation": "test"}))
    assert final.fingerprint == direct.fingerprint
    assert make_split(table(list(reversed(rows))), section).test.timestamps.tolist() == split.test.timestamps.tolist()


def test_a_user_s_first_row_is_always_learnt_from() -> None:
    rows = [("a", "x", 1), ("b", "x", 1), ("b", "y", 2), *(("c", item, time) for time, item in enumerate("vwxyz"))]
    split = make_split(table(rows), SplitSection(method="leave_last", k=2))
    assert [(user, time) for user, _, time, _ in keys(split, "train")] == [("a", 1), ("b", 1), ("c", 0)]
    assert [(user, time) for user, _, time, _ in keys(split, "test")] == [("b", 2), ("c", 3), ("c", 4)]


@pytest.mark.parametrize("method", ["temporal", "temporal_user", "leave_last"])
def test_no_times_no_division_by_time(method: Any) -> None:
    with pytest.raises(MalformedData, match=f'method = "{method}" needs times'):
        make_split(table([("a", item, 5) for item in "vwxyz"] * 3), SplitSection(method=method))


def column_file(folder: Path, parts: list[str]) -> DataSection:
    path = folder / "t.csv"
    lines = [f"u{n % 3},i{n % 4},{n % 5},{part}\n" for n, part in enumerate(parts)]
    path.write_text("user,item,rating,fold\n" + "".join(lines))
    return DataSection(source=str(path))


BY_COLUMN = SplitSection(method="column", column="fold")


def test_by_column(tmp_path: Path) -> None:
    data = column_file(tmp_path, ["train"] * 5 + ["validation"] * 2 + ["test", "train"])
    split = make_split(load(data, BY_COLUMN), BY_COLUMN)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [6, 2, 1]
    assert sorted(row[:2] for row in keys(split, "validation")) == [("u0", "i2"), ("u2", "i1")]
    last_look = BY_COLUMN.model_copy(update={"validation": "test"})
    direct = make_split(load(data, last_look), last_look)
    assert direct.fingerprint == split.final().fingerprint
    assert len(direct.train) == 8


@pytest.mark.parametrize(("value", "told"), [("valid", "row 2, column 'fold': 'valid' is not one of"), ("", "no part")])
def test_another_value_is_named(tmp_path: Path, value: str, told: str) -> None:
    with pytest.raises(MalformedData, match=told):
        load(column_file(tmp_path, ["train", value, "test"]), BY_COLUMN)


def test_a_column_that_is_not_there(tmp_path: Path, original: Path) -> None:
    data = column_file(tmp_path, ["train"])
    with pytest.raises(MalformedData, match=r"no column 'folds'.*did you mean 'fold'"):
        load(data, SplitSection(method="column", column="folds"))
    with pytest.raises(MalformedData, match="no column 'fold'"):
        load(DataSection(source=str(original)), BY_COLUMN)
    with pytest.raises(MalformedData, match="needs a table with such a column"):
        make_split(load(data), BY_COLUMN)


@pytest.mark.parametrize(
    "raw",
    [{"method": "column"}, {"column": "fold"}, {"k": 2}, {"method": "leave_last", "k": 0}, {"method": "tempral"}],
)
def test_sections_that_say_nothing_clear(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        SplitSection.model_validate(raw)
