"""Tests of a loaded model: its answers against NumPy, and every way in which a folder can be damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.errors import ModelError, RequestError
from mtsearch.serving import ServedModel
from mtsearch.serving.requests import find_id_problem
from tests.helpers.served_double import ODD_TITLE, TABLES

ANYBODY = [*TABLES.user_ids, "nobody"]


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 5, 12])
def test_recommendations(model: ServedModel, k: int, exclude_seen: bool) -> None:
    found = model.recommend(ANYBODY, k, exclude_seen)
    assert found.items.shape == found.titles.shape == found.scores.shape == found.ratings.shape == (len(ANYBODY), k)
    assert found.known.tolist() == [True] * 5 + [False]
    titles = dict(zip(TABLES.item_ids, TABLES.titles, strict=True))
    for row, user in enumerate(ANYBODY):
        best = found.of(row)
        assert [one.item for one in best] == TABLES.ranking(user, exclude_seen)[:k]
        assert [one.title for one in best] == [titles[one.item] for one in best]
        assert [one.rating for one in best] == pytest.approx([TABLES.rating(user, one.item) for one in best], abs=1e-5)
        left = len(best)
        assert list(found.items[row, left:]) == [""] * (k - left)
        assert np.isneginf(found.scores[row, left:]).all() and np.isnan(found.ratings[row, left:]).all()


def test_a_user_who_has_seen_every_item_gets_an_empty_list(model: ServedModel) -> None:
    assert model.recommend(["2"], 12).of(0) == []
    assert len(model.recommend(["2"], 12, exclude_seen=False).of(0)) == 12


def test_text_beyond_ascii(model: ServedModel) -> None:
    assert ODD_TITLE in model.recommend(["5"], 12).titles


def test_predictions(model: ServedModel) -> None:
    pairs = [(user, item) for user in ANYBODY for item in [*TABLES.item_ids, "nothing"]]
    users, items = zip(*pairs, strict=True)
    found = model.predict(users, items)
    assert found.ratings == pytest.approx([TABLES.rating(*pair) for pair in pairs], abs=1e-5)
    assert found.known_users.tolist() == [user != "nobody" for user in users]
    assert found.known_items.tolist() == [item != "nothing" for item in items]
    assert found.ratings.min() >= 1 and found.ratings.max() <= 5


def test_empty_requests_have_empty_answers(model: ServedModel) -> None:
    assert model.recommend([], 3).items.shape == (0, 3)
    assert model.predict([], []).ratings.shape == (0,)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), max_size=5))
def test_any_other_id_is_the_average_user(model: ServedModel, users: list[str]) -> None:
    users = [user for user in users if not find_id_problem(user)]
    found = model.recommend(users, 3)
    for row, user in enumerate(users):
        assert [one.item for one in found.of(row)] == TABLES.ranking(user)[:3]
        assert found.known[row] == (user in TABLES.user_ids)


@pytest.mark.parametrize(
    ("id_", "said"),
    [
        ("", "is empty"),
        ("4" * 257, "has 257 characters"),
        ("4" * 1_000_000, "has 1,000,000 characters"),
        ("4\x002", "NUL"),
        ("\udcff", "not valid Unicode"),
    ],
)
def test_ids_that_cannot_be(model: ServedModel, id_: str, said: str) -> None:
    for ask in (lambda: model.recommend(["1", id_]), lambda: model.predict(["1", "1"], ["i1", id_])):
        with pytest.raises(RequestError, match=said) as caught:
            ask()
        assert len(str(caught.value)) < 200 and "number 2" in str(caught.value)
        str(caught.value).encode()


def test_the_longest_id_is_none_too_long(model: ServedModel) -> None:
    assert not model.recommend(["ü" * 256]).known[0]


@pytest.mark.parametrize("k", [13, 0, -1, 2**31, 2**63, 10**5000], ids=lambda k: f"{k.bit_length()} bits")
def test_k_out_of_bounds(model: ServedModel, k: int) -> None:
    with pytest.raises(RequestError, match="between 1 and 12") as caught:
        model.recommend(["1"], k)
    assert len(str(caught.value)) < 200


def test_pairs_must_be_pairs(model: ServedModel) -> None:
    with pytest.raises(ValueError, match="2 users and 1 items"):
        model.predict(["1", "2"], ["i1"])


def _model_json(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _content(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.json").write_bytes(content)


def _cut(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        (path,) = (folder / "1").glob(name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def _flip_weight(folder: Path) -> None:
    (path,) = (folder / "1").glob("variables/*.data*")
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)


def _other_module(folder: Path) -> None:
    import tensorflow as tf

    shutil.rmtree(folder / "1")
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(folder / "1"), signatures={"predict": module.double, "recommend": module.double})


def _no_signatures(folder: Path) -> None:
    import tensorflow as tf

    shutil.rmtree(folder / "1")
    tf.saved_model.save(tf.Module(), str(folder / "1"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "no folder"),
    "no model": (lambda folder: (folder / "model.json").unlink(), "is not a model folder"),
    "empty": (_content(b""), "damaged: not JSON"),
    "cut": (_content(b'{"format": 1, "us'), "damaged: not JSON"),
    "binary": (_content(b"\xff\xfe\x00"), "damaged: not UTF-8"),
    "nested": (_content(b"[" * 200_000), "damaged: not JSON"),
    "a list": (_content(b"[1]"), "no format number"),
    "no format": (_model_json(format=None), "no format number"),
    "format in words": (_model_json(format="one"), "no format number"),
    "newer": (
        _model_json(format=3, mtsearch="9.1"),
        "made by a newer mtsearch (mtsearch 9.1, format 3; this version reads 2)",
    ),
    "no catalogue": (_model_json(catalogue=None), "catalogue"),
    "a catalogue of none": (_model_json(catalogue=0), "catalogue"),
    "a catalogue that is not there": (_model_json(catalogue=13), "cannot be run"),
    "no SavedModel": (lambda folder: shutil.rmtree(folder / "1"), "is missing"),
    "an empty SavedModel": (lambda folder: (folder / "1" / "saved_model.pb").unlink(), "is damaged"),
    "a cut graph": (_cut("saved_model.pb"), "is damaged"),
    "cut weights": (_cut("variables/*.data*"), "is damaged"),
    "no weights": (lambda folder: shutil.rmtree(folder / "1" / "variables"), "is damaged"),
    "a flipped bit": (_flip_weight, "is damaged"),
    "other signatures": (_other_module, "'predict'"),
    "no signatures": (_no_signatures, "no signature 'predict'"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_folders_that_cannot_be_used(copied: Path, damage: str) -> None:
    act, said = DAMAGES[damage]
    act(copied)
    with pytest.raises(ModelError) as caught:
        ServedModel.load(copied)
    line = str(caught.value)
    assert said in line and str(copied) in line
    assert "mtsearch retrain" in line or "pip install -U mtsearch" in line
    assert "\n" not in line and len(line) < 700


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file, not a model folder"):
        ServedModel.load(tmp_path / "file")
