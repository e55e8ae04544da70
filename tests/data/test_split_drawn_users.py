"""`[split] validation_users`: the users on whose rows trials are evaluated, and the rows of the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.data import Interactions, Split, make_split
from mtsearch.data.split import describe
from mtsearch.study_file.sections import SplitSection
from tests.data.test_split import in_order, numbered


def users_of(split: Split) -> set[int]:
    return set(split.validation.users.tolist())


@given(st.integers(60, 200), st.integers(0, 2**31 - 1), st.integers(2, 12))
def test_the_rows_of_so_many_users_and_of_the_others(count: int, seed: int, users: int) -> None:
    table = numbered(count)
    whole, drawn = (make_split(table, SplitSection(seed=seed, validation_users=each)) for each in (None, users))
    having = users_of(whole)
    assert drawn.train.timestamps.tolist() == whole.train.timestamps.tolist()
    assert drawn.test.timestamps.tolist() == whole.test.timestamps.tolist()
    assert drawn.catalogue.tolist() == whole.catalogue.tolist()
    if users >= len(having):
        assert drawn.set_aside is None and drawn.drawn_from is None
        assert drawn.fingerprint == whole.fingerprint
        return
    assert drawn.set_aside is not None
    assert len(users_of(drawn)) == drawn.validation_users == users
    assert drawn.drawn_from == len(having)
    assert not users_of(drawn) & set(drawn.set_aside.users.tolist())
    rows = [*drawn.validation.timestamps.tolist(), *drawn.set_aside.timestamps.tolist()]
    assert sorted(rows) == sorted(whole.validation.timestamps.tolist())
    assert in_order(drawn.validation)


def test_fewer_users_are_some_of_more() -> None:
    few, more = (make_split(numbered(200), SplitSection(validation_users=each)) for each in (3, 6))
    assert users_of(few) < users_of(more)


def test_the_users_drawn_are_the_same_on_every_machine() -> None:
    split = make_split(numbered(1000), SplitSection(validation_users=3))
    # Of the eleven users 0 to 10: the first three of RandomState([42, 1]).permutation(11).
    assert users_of(split) == {3, 6, 5}
    assert users_of(make_split(numbered(1000), SplitSection(validation_users=3, seed=1))) != users_of(split)


def test_the_users_do_not_hang_on_which_rows_were_drawn() -> None:
    """Each is drawn in 3 of 11 cases, one with many validation rows no more often than one with few."""
    drawn = np.zeros(11)
    for seed in range(600):
        drawn[list(users_of(make_split(numbered(400), SplitSection(seed=seed, validation_users=3))))] += 1
    expected = 600 * 3 / 11
    # Less than the 0.999 quantile of chi-square with 10 degrees of freedom.
    assert ((drawn - expected) ** 2 / expected).sum() < 29.6


def test_another_sample_has_another_fingerprint() -> None:
    sizes = (None, 3, 4)
    assert len({make_split(numbered(200), SplitSection(validation_users=each)).fingerprint for each in sizes}) == 3


def test_the_last_look_trains_on_the_validation_rows_of_all_users(ml_100k: Interactions) -> None:
    whole, drawn = (make_split(ml_100k, SplitSection(validation_users=each)) for each in (None, 300))
    assert len(drawn.validation) < len(whole.validation) == 8_000
    final = drawn.final()
    assert final.fingerprint == whole.final().fingerprint
    assert (len(final.train), len(final.test)) == (80_000, 20_000)
    assert final.validation is final.test
    assert final.set_aside is None and final.drawn_from is None


def test_facts_name_the_rows_set_aside(ml_100k: Interactions) -> None:
    parts = describe(ml_100k, make_split(ml_100k, SplitSection(validation_users=300)))["split"]
    assert parts["validation"]["rows"] + parts["set_aside"]["rows"] == 8_000
    assert "set_aside" not in describe(ml_100k, make_split(ml_100k, SplitSection()))["split"]


@pytest.mark.parametrize("users", [0, 1, -5, 2.5, "all", True])
def test_only_two_users_or_more(users: object) -> None:
    with pytest.raises(ValueError, match="validation_users"):
        SplitSection.model_validate({"validation_users": users})


def test_none_are_drawn_where_the_test_rows_are_validated_on() -> None:
    with pytest.raises(ValueError, match='validation = "test" has none'):
        SplitSection(validation="test", validation_users=5)
