import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.data import Interactions, Rows, Split, make_split, undivided
from mtsearch.errors import MalformedData
from mtsearch.study_file.sections import SplitSection

LAST_LOOK = SplitSection(validation="test")


def numbered(count: int, catalogue: list[str] | None = None) -> Interactions:
    """Make a table whose row n has timestamp n, with a few users and items."""
    number = np.arange(count)
    return Interactions.from_columns(
        [str(n * 7 % 11) for n in range(count)],
        [str(n * 5 % 13) for n in range(count)],
        (number % 5 + 1).astype(np.float32),
        number,
        catalogue,
    )


def parts(split: Split) -> list[Rows]:
    return [split.train, split.validation, split.test]


def in_order(rows: Rows) -> bool:
    keys = list(zip(*(column.tolist() for column in (rows.users, rows.items, rows.timestamps)), strict=True))
    return keys == sorted(keys)


def test_the_default_sizes_on_movielens_100k(ml_100k: Interactions) -> None:
    assert [len(part) for part in parts(make_split(ml_100k, SplitSection()))] == [72_000, 8_000, 20_000]
    # The fingerprint that studies have recorded: whoever changes it makes every one of them a mismatch.
    recorded = "b15fd24edcefde82bef6eab249adba36da54733268e8edab40b2c64ff3b026f2"
    assert make_split(ml_100k, SplitSection()).fingerprint == recorded
    assert [len(part) for part in parts(make_split(ml_100k, LAST_LOOK))] == [80_000, 20_000, 20_000]
    assert [len(part) for part in parts(make_split(ml_100k, SplitSection()).final())] == [80_000, 20_000, 20_000]


@given(st.integers(30, 200), st.floats(0.1, 0.6), st.floats(0.1, 0.6), st.integers(0, 2**31 - 1))
def test_every_row_is_in_one_part_in_the_order_of_the_table(
    count: int, test: float, validation: float, seed: int
) -> None:
    split = make_split(numbered(count), SplitSection(test=test, validation=validation, seed=seed))
    assert len(split.test) == round(test * count)
    assert len(split.validation) == round(validation * (count - len(split.test)))
    numbers = np.concatenate([part.timestamps for part in parts(split)])
    assert sorted(numbers.tolist()) == list(range(count))
    assert all(map(in_order, parts(split)))


def test_a_whole_row_stays_together() -> None:
    table = numbered(50)
    for part in parts(make_split(table, SplitSection())):
        for user, item, rating, number in zip(*part.columns, strict=True):
            assert table.user_ids[user] == str(number * 7 % 11)
            assert table.item_ids[item] == str(number * 5 % 13)
            assert rating == number % 5 + 1


@given(st.integers(30, 100), st.integers(0, 1000))
def test_the_last_look_is_the_split_that_validates_on_test(count: int, seed: int) -> None:
    table = numbered(count)
    final = make_split(table, SplitSection(seed=seed)).final()
    direct = make_split(table, SplitSection(seed=seed, validation="test"))
    assert final.validation is final.test
    assert in_order(final.train)
    assert final.train.timestamps.tolist() == direct.train.timestamps.tolist()
    assert final.test.timestamps.tolist() == direct.test.timestamps.tolist()
    assert final.fingerprint == direct.fingerprint
    assert final.final() is final


def test_a_split_that_validates_on_test_never_trains_on_it() -> None:
    split = make_split(numbered(100), LAST_LOOK)
    assert not set(split.final().train.timestamps.tolist()) & set(split.test.timestamps.tolist())


def test_the_fingerprint_tells_seeds_shares_tables_and_catalogues_apart() -> None:
    table = numbered(100)
    splits = [
        make_split(table, SplitSection()),
        make_split(table, SplitSection(seed=1)),
        make_split(table, SplitSection(test=0.3)),
        make_split(table, LAST_LOOK),
        make_split(numbered(101), SplitSection()),
        make_split(numbered(100, ["more"]), SplitSection()),
    ]
    assert len({split.fingerprint for split in splits}) == len(splits)


def test_the_same_rows_in_another_process(ml_100k: Interactions, original: Path) -> None:
    script = (
        "from mtsearch.data import load, make_split;"
        "from mtsearch.study_file.definition import DataSection, SplitSection;"
        f"print(make_split(load(DataSection(source={str(original)!r})), SplitSection()).fingerprint)"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == make_split(ml_100k, SplitSection()).fingerprint


def test_the_rows_drawn_are_the_same_on_every_release_of_numpy() -> None:
    table = numbered(5)
    assert table.rows.timestamps.tolist() == [0, 3, 2, 4, 1]
    # RandomState(42).permutation(5) is 1, 4, 2, 0, 3.
    split = make_split(table, SplitSection(test=0.4, validation=0.34))
    assert [part.timestamps.tolist() for part in parts(split)] == [[0, 4], [2], [3, 1]]


def test_the_catalogue_is_the_items_file_where_there_is_one() -> None:
    split = make_split(numbered(100, ["5", "unseen"]), SplitSection())
    assert split.item_ids[split.catalogue].tolist() == ["5", "unseen"]


@pytest.mark.parametrize("section", [SplitSection(), LAST_LOOK])
def test_the_catalogue_is_the_training_side_where_there_is_no_items_file(section: SplitSection) -> None:
    table = Interactions.from_columns(
        ["u"] * 20, [f"{n:02}" for n in range(20)], np.ones(20, np.float32), np.arange(20)
    )
    split = make_split(table, section)
    assert set(split.catalogue.tolist()) == set(range(20)) - set(split.test.items.tolist())
    assert split.final().catalogue is split.catalogue


@pytest.mark.parametrize("listed", [None, ["5", "unseen"]])
def test_undivided_trains_on_every_row(listed: list[str] | None) -> None:
    table = numbered(40, listed)
    split = undivided(table)
    assert split.train.timestamps.tolist() == table.rows.timestamps.tolist()
    assert len(split.validation) == len(split.test) == 0
    catalogue = split.item_ids[split.catalogue].tolist()
    assert catalogue == (listed or sorted(set(table.item_ids[table.rows.items])))
    assert split.fingerprint != make_split(table, SplitSection()).fingerprint


def test_known_are_the_users_and_items_of_training_rows() -> None:
    split = make_split(numbered(40), SplitSection(test=0.6))
    assert np.flatnonzero(split.known_users).tolist() == sorted(set(split.train.users.tolist()))
    assert np.flatnonzero(split.known_items).tolist() == sorted(set(split.train.items.tolist()))
    assert len(split.known_users) == len(split.user_ids)


@pytest.mark.parametrize(("count", "section"), [(1, LAST_LOOK), (5, SplitSection()), (2, SplitSection(test=0.9))])
def test_too_few_rows_for_every_part_are_refused(count: int, section: SplitSection) -> None:
    with pytest.raises(MalformedData, match=rf"{count} ratings give .* to test on; use more ratings"):
        make_split(numbered(count), section)
