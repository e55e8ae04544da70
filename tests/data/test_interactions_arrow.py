import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtsearch.data import Interactions, interactions, movielens

SOURCE = "movielens/100k"


def small(catalogue: list[str] | None = None) -> Interactions:
    return Interactions.from_columns(
        ["u", "é", "u"], ["i", "i", "j"], np.array([1, 2, 3], np.float32), np.array([7, 8, 9], np.int64), catalogue
    )


def same(first: Interactions, second: Interactions) -> bool:
    pairs = zip(first.rows.columns, second.rows.columns, strict=True)
    return (
        all(one.dtype == other.dtype and one.tobytes() == other.tobytes() for one, other in pairs)
        and first.user_ids.tolist() == second.user_ids.tolist()
        and first.item_ids.tolist() == second.item_ids.tolist()
        and (first.catalogue is None) == (second.catalogue is None)
        and (first.catalogue is None or first.catalogue.tolist() == np.asarray(second.catalogue).tolist())
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept.arrow"


@pytest.mark.parametrize("catalogue", [None, [], ["i", "other"]])
def test_what_was_kept_comes_back(path: Path, catalogue: list[str] | None) -> None:
    movielens.keep_in_cache(path, SOURCE, small(catalogue))
    back = interactions.read_arrow(path, SOURCE)
    assert back is not None
    assert same(back, small(catalogue))
    assert [file.name for file in path.parent.glob("*kept*")] == [path.name]


def test_movielens_100k_loads_in_milliseconds(path: Path, ml_100k: Interactions) -> None:
    movielens.keep_in_cache(path, SOURCE, ml_100k)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        back = interactions.read_arrow(path, SOURCE)
        seconds.append(time.perf_counter() - start)
    assert back is not None
    assert same(back, ml_100k)
    assert min(seconds) < 0.1  # 0.006 on an idle machine


def test_nothing_kept_is_nothing_to_say(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert interactions.read_arrow(path, SOURCE) is None
    assert not caplog.records


def test_a_cut_file_is_never_trusted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    movielens.keep_in_cache(path, SOURCE, small(["i"]))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        caplog.clear()
        path.write_bytes(whole[:length])
        assert interactions.read_arrow(path, SOURCE) is None, length
        assert "is damaged" in caplog.text


@given(garbage=st.binary(max_size=200))
def test_garbage_is_never_trusted(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "kept.arrow"
    for content in (garbage, b"ARROW1\0\0" + garbage + b"ARROW1"):
        path.write_bytes(content)
        assert interactions.read_arrow(path, SOURCE) is None


def test_a_flipped_byte_anywhere_gives_the_same_table_or_none(path: Path) -> None:
    movielens.keep_in_cache(path, SOURCE, small(["i", "other"]))
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0x55
        path.write_bytes(changed)
        back = interactions.read_arrow(path, SOURCE)
        refused += back is None
        assert back is None or same(back, small(["i", "other"])), position
    assert refused > len(whole) / 4  # the rest is padding


def test_a_flipped_byte_in_every_column_is_noticed(path: Path, ml_100k: Interactions) -> None:
    movielens.keep_in_cache(path, SOURCE, ml_100k)
    whole = path.read_bytes()
    rows = ml_100k.rows
    for column in (rows.users, rows.items, rows.ratings, rows.timestamps):
        changed = bytearray(whole)
        changed[whole.index(column.tobytes()[:400]) + 200] ^= 1
        path.write_bytes(changed)
        assert interactions.read_arrow(path, SOURCE) is None
    changed = bytearray(whole.replace(b"Toy Story (1995)", b"Toy Story (1996)"))
    path.write_bytes(changed)
    assert interactions.read_arrow(path, SOURCE) is None


def test_another_catalogue_is_noticed_though_the_rows_are_the_same(path: Path) -> None:
    movielens.keep_in_cache(path, SOURCE, small(["i"]))
    whole = path.read_bytes()
    assert whole.count(b'"catalogue": [0]') == 2  # head and foot
    path.write_bytes(whole.replace(b'"catalogue": [0]', b'"catalogue": [1]'))
    assert interactions.read_arrow(path, SOURCE) is None


def test_the_file_of_another_source_is_not_taken(path: Path) -> None:
    movielens.keep_in_cache(path, "movielens/1m", small())
    assert interactions.read_arrow(path, SOURCE) is None


def test_another_table_in_arrow_form_is_not_taken(path: Path) -> None:
    with pa.ipc.new_file(path, (table := pa.table({"user": [1, 2]})).schema) as writer:
        writer.write_table(table)
    assert interactions.read_arrow(path, SOURCE) is None


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    movielens.keep_in_cache(tmp_path / "file" / "kept.arrow", SOURCE, small())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "set MTSEARCH_CACHE" in caplog.text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    (path / "occupied").touch()
    movielens.keep_in_cache(path, SOURCE, small())
    assert "cannot be cached" in caplog.text
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []
    assert interactions.read_arrow(path, SOURCE) is None


def test_two_processes_fill_it_at_once(tmp_path: Path, original: Path) -> None:
    path = tmp_path / "kept.arrow"
    script = (
        "from pathlib import Path; from mtsearch.data import interactions, load;"
        "from mtsearch.study_file.sections import DataSection;"
        f"path, table = Path({str(path)!r}), load(DataSection(source={str(original)!r}))\n"
        "for _ in range(20):\n"
        "    interactions.write_arrow(path, 'movielens/100k', table)\n"
        "    assert interactions.read_arrow(path, 'movielens/100k').fingerprint == table.fingerprint\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in both] == [("", 0)] * 2
    assert [file.name for file in tmp_path.iterdir()] == ["kept.arrow"]
