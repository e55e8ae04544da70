"""Synthetic ratings: the same on every machine, long-tailed, and with tastes that can be learnt."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data import Interactions, load, make_split
from mtsearch.data.synthetic import SIZES, make_synthetic
from mtsearch.errors import MalformedData
from mtsearch.evaluation import Evaluator, evaluate_baselines
from mtsearch.evaluation.baselines import popularity
from mtsearch.study_file.sections import DataSection, SplitSection


@pytest.fixture(scope="module")
def table() -> Interactions:
    return load(DataSection(source="synthetic/100k"))


def counts(codes: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Return the number of rows of each code, the largest first."""
    return np.sort(np.bincount(codes, minlength=size))[::-1]


def test_the_same_rows_on_every_machine(table: Interactions) -> None:
    # Whoever changes it makes every study of synthetic data a mismatch.
    assert table.fingerprint == "e19557f8f7cf54c9a1c6e440d2caa747dd3d0a82993a64f99c4be20ec5311772"
    assert (
        make_synthetic(500, 40, 60, seed=7).fingerprint
        == "6d8d1ccb6a3948e7710ac6cfeec2078c2c6bab2f1d37448a416e8e641fd13210"
    )
    assert make_synthetic(500, 40, 60, seed=8).fingerprint != make_synthetic(500, 40, 60, seed=7).fingerprint


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(2, 40), st.floats(0, 1), st.integers(0, 2**32), st.integers(1, 400))
def test_it_is_a_canonical_table_without_repeats_whatever_the_blocks(
    users: int, items: int, filled: float, seed: int, block_rows: int
) -> None:
    rows = users + round(filled * users * (items // 2 - 1))
    made = make_synthetic(rows, users, items, seed, block_rows)
    data = made.rows
    assert len(data) == rows
    assert [column.dtype for column in data.columns] == [np.int32, np.int32, np.float32, np.int64]
    assert (np.diff(data.users.astype(np.int64) * items + data.items) > 0).all()
    assert set(data.users.tolist()) == set(range(users))
    assert data.items.min() >= 0
    assert data.items.max() < items
    assert set(data.ratings.tolist()) <= {half / 2 for half in range(1, 11)}
    assert data.timestamps.min() >= 820_454_400  # 1996
    assert data.timestamps.max() < 1_577_836_800  # 2020
    assert made.fingerprint == make_synthetic(rows, users, items, seed).fingerprint


def test_ids_and_catalogue(table: Interactions) -> None:
    assert table.user_ids.tolist() == sorted({f"u{number:06}" for number in range(1, 944)})
    assert table.item_ids.tolist() == sorted({f"i{number:06}" for number in range(1, 1683)})
    assert table.catalogue is not None
    assert table.catalogue.tolist() == list(range(1682))


def test_sizes_are_those_that_are_named(table: Interactions) -> None:
    assert (len(table.rows), len(table.user_ids), len(table.item_ids)) == SIZES["synthetic/100k"]
    assert SIZES["synthetic/25m"] == (25_000_000, 162_000, 62_000)


def test_long_tails() -> None:
    made = make_synthetic(500_000, 3_240, 5_000)
    by_user, by_item = counts(made.rows.users, 3_240), counts(made.rows.items, 5_000)
    assert by_user[-1] == pytest.approx(0.13 * by_user.mean(), abs=1)
    assert 0.4 < np.median(by_user) / by_user.mean() < 0.6  # 0.46 in MovieLens 25M, 1 without a tail
    assert by_user[0] > 10 * by_user.mean()
    assert 0.4 < by_item[0] / 3_240 < 0.6  # 0.50 in MovieLens 25M
    assert by_item[:500].sum() > 0.5 * by_item.sum()  # 0.1 without a tail
    assert np.median(by_item) < 0.5 * by_item.mean()


def test_users_and_items_stay_who_they_are_with_more_rows() -> None:
    few, many = make_synthetic(3_000, 300, 500), make_synthetic(30_000, 300, 500)
    assert few.user_ids.tolist() == many.user_ids.tolist()
    popular = [np.argsort(np.bincount(made.rows.items, minlength=500))[-25:] for made in (few, many)]
    assert len({*popular[0].tolist()} & {*popular[1].tolist()}) > 12  # 1 by chance


def test_biases_beat_the_mean_and_popularity_beats_chance(table: Interactions) -> None:
    split = make_split(table, SplitSection())
    reached = evaluate_baselines(split, split.validation)
    assert reached["biases"]["rmse"] < 0.85 * reached["chance"]["rmse"]
    assert reached["popularity"]["top_100"] > 4 * reached["chance"]["top_100"]


@pytest.mark.slow
def test_tastes_can_be_learnt(table: Interactions) -> None:
    """Users who share items with a user predict that user's items better than popularity does."""
    split = make_split(table, SplitSection())
    seen = np.zeros((len(split.user_ids), len(split.item_ids)), np.float32)
    seen[split.train.users, split.train.items] = 1
    centred = seen - seen.mean(axis=0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    factors = (u[:, :8] * s[:8]) @ v[:8] + seen.mean(axis=0)

    class Factors:
        def ratings(self, users: Any, items: Any) -> Any:
            return np.full(len(users), 3.5, np.float32)

        def scores(self, users: Any) -> Any:
            return factors[users].astype(np.float32)

    evaluator = Evaluator(split, split.validation)
    learnt, popular = evaluator.evaluate(Factors()), evaluator.evaluate(popularity(split))
    assert learnt["top_100_unseen"] > 1.15 * popular["top_100_unseen"]


@pytest.mark.slow
def test_25_million_rows_are_split_and_evaluated_in_2_gib() -> None:
    script = (
        "import resource; from mtsearch.data import load, make_split; from mtsearch.evaluation import Evaluator;"
        "from mtsearch.study_file.definition import DataSection, SplitSection;"
        "from mtsearch.evaluation.baselines import popularity;"
        "split = make_split(load(DataSection(source='synthetic/25m')), SplitSection());"
        "print(split.fingerprint, Evaluator(split, split.validation).evaluate(popularity(split))['top_100']);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    fingerprint, top_100, kibibytes = ended.stdout.split()
    assert fingerprint.startswith("b0cb7621422b6c50")
    assert float(top_100) == pytest.approx(0.2409, abs=0.0001)  # chance: 0.0016
    assert int(kibibytes) < 2.2 * 2**20


@pytest.mark.parametrize(
    ("rows", "users", "items"), [(9, 10, 10), (51, 10, 10), (5, 0, 10), (1, 1, 1), (2**22, 2, 2**21 + 2)]
)
def test_what_cannot_be_made_is_refused(rows: int, users: int, items: int) -> None:
    with pytest.raises(ValueError, match="out of its range"):
        make_synthetic(rows, users, items)


def test_columns_are_not_to_be_named() -> None:
    with pytest.raises(MalformedData, match="synthetic/100k has fixed columns"):
        load(DataSection.model_validate({"source": "synthetic/100k", "columns": {"user": "who"}}))


def test_it_is_cleaned_as_the_section_says(messages: pytest.LogCaptureFixture) -> None:
    cleaned = load(DataSection(source="synthetic/100k", feedback="binary"))
    assert messages.messages[0] == "data: 100,000 synthetic rows"
    assert set(cleaned.rows.ratings.tolist()) == {1.0}
    assert len(cleaned.catalogue if cleaned.catalogue is not None else ()) == 1682
