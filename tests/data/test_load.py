"""Loading MovieLens by every source, and the messages if a source is unavailable."""

import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mtsearch.data import Interactions, load, movielens, movielens_100k
from mtsearch.data.movielens import EDITIONS, load_movielens, mask_credentials, run_to_end
from mtsearch.errors import MalformedData, SourceUnavailable
from mtsearch.study_file.sections import DataSection

SMALL = EDITIONS["movielens/100k"]
FINGERPRINT = "c68f55af1ad78cf8ded2037817adc9d8eea11c9312bc74d43811a7812c2af8fc"


def assert_is_movielens_100k(table: Interactions) -> None:
    assert table.fingerprint == FINGERPRINT
    assert table.catalogue is not None
    assert (len(table.rows), len(table.user_ids), len(table.item_ids), len(table.catalogue)) == (
        (100_000, 943, 1_664, 1_664)
    )
    assert "unknown" in table.item_ids
    assert "Á köldum klaka (Cold Fever) (1994)" in table.item_ids
    assert not [title for title in table.item_ids if title != title.strip()]


def test_the_original_archive(original: Path, messages: pytest.LogCaptureFixture) -> None:
    assert_is_movielens_100k(load(DataSection(source=str(original))))
    assert messages.messages[0].startswith(f"data: 100,000 rows from {original}; ")


@pytest.mark.slow
def test_the_wheel_then_the_cache(
    messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, empty_cache: Path, silent_host: str
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(empty_cache))
    edition = replace(SMALL, url=silent_host, patience=0.2)
    assert_is_movielens_100k(load_movielens(edition))
    assert messages.messages == [
        "data: MovieLens 100K from the RecBole wheel of the package index "
        f"({silent_host} could not be reached: no answer within 0.2 s)"
    ]
    messages.clear()
    assert_is_movielens_100k(load_movielens(edition))
    assert messages.messages == [f"data: MovieLens 100K from the cache {empty_cache / 'movielens-100k.arrow'}"]


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on PATH")
def test_the_wheel_through_uv_where_pip_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert_is_movielens_100k(movielens_100k.read_wheel())


@pytest.mark.slow
def test_a_damaged_cache_is_made_again(
    original: Path, empty_cache: Path, messages: pytest.LogCaptureFixture, silent_host: str
) -> None:
    edition = replace(SMALL, url=silent_host, patience=0.1)
    load_movielens(edition)
    kept = empty_cache / "movielens-100k.arrow"
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    messages.clear()
    assert_is_movielens_100k(load_movielens(edition))
    assert "is damaged" in messages.messages[0]
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, messages: pytest.LogCaptureFixture, silent_host: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTSEARCH_CACHE", str(tmp_path / "file"))
    assert_is_movielens_100k(load_movielens(replace(SMALL, url=silent_host, patience=0.1)))
    assert any("cannot be cached in" in message for message in messages.messages)


@pytest.mark.usefixtures("no_network")
def test_all_ways_closed_is_one_error_with_the_way_out() -> None:
    start = time.perf_counter()
    with pytest.raises(SourceUnavailable) as caught:
        load(DataSection())
    assert time.perf_counter() - start < 20
    told = str(caught.value)
    assert "ml-100k.zip could not be reached: " in told
    assert "recbole==1.2.1 could not be downloaded: pip ended with status 1" in told
    assert "--set data.source=path/to/ml-100k.zip" in told
    assert "\n" not in told


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("size", ["1m", "20m", "25m"])
def test_larger_editions_have_no_second_way(size: str) -> None:
    with pytest.raises(SourceUnavailable, match=rf"MovieLens {size.upper()} is not available: .*; set HTTPS_PROXY"):
        load(DataSection(source=f"movielens/{size}"))


@pytest.mark.parametrize("source", ["movielens/100", "movielens/100K", "nothing/here.zip", "x" * 5000, "~nobody-here"])
def test_no_such_name_or_path_lists_the_names(source: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        load(DataSection(source=source))
    assert "movielens/100k, movielens/1m, movielens/20m, movielens/25m" in caught.value.remedy
    assert ("did you mean movielens/100k?" in caught.value.remedy) == source.startswith("movielens")


@pytest.mark.parametrize("name", ["ratings.txt", "ratings.dat", "ratings"])
def test_a_text_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1::1::5::100\n1::2::4::200\n")
    section = DataSection.model_validate({"source": str(tmp_path / name), "columns": {"user": 1, "item": 2}})
    assert len(load(section).rows) == 2


def test_a_file_of_movielens_is_known(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t1\t5\t100\n")
    table = load(DataSection(source=str(tmp_path / "u.data")))
    assert (table.rows.ratings.tolist(), table.rows.timestamps.tolist()) == ([5], [100])


def test_what_begins_as_a_zip_is_one_whatever_its_name(tmp_path: Path, original: Path) -> None:
    whole = original.read_bytes()
    (tmp_path / "archive").write_bytes(whole)
    assert_is_movielens_100k(load(DataSection(source=str(tmp_path / "archive"))))
    for name, content in (("archive", whole[:1000]), ("nonsense.ZIP", b"nonsense")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MalformedData, match="is not a complete zip archive"):
            load(DataSection(source=str(tmp_path / name)))


def test_the_probe_knows_an_archive_from_everything_else(host: str) -> None:
    assert movielens.probe(f"{host}/ml-100k.zip", 5) == ""
    assert movielens.probe(f"{host}/sorry.html", 5) == "the answer is not a zip archive"
    assert "404" in movielens.probe(f"{host}/nothing.zip", 5)
    assert "refused" in movielens.probe("http://127.0.0.1:9/ml-100k.zip", 5)


def test_the_probe_gives_up_in_time(silent_host: str) -> None:
    start = time.perf_counter()
    assert movielens.probe(silent_host, 0.3) == "no answer within 0.3 s"
    assert time.perf_counter() - start < 2


def test_the_probe_goes_through_the_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", host)
    monkeypatch.setenv("no_proxy", "")
    # The server, asked as a proxy, looks for the whole URL among its files.
    assert "404" in movielens.probe("http://nowhere.invalid/ml-100k.zip", 5)


def test_a_program_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    late = f"import pathlib, time; time.sleep(1.5); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {late!r}]).wait()"
    start = time.perf_counter()
    assert run_to_end([sys.executable, "-c", script], 0.6, {}).status is None
    assert time.perf_counter() - start < 1.5
    time.sleep(2)
    assert not (tmp_path / "late").exists()


def test_a_program_s_last_line_is_told_without_passwords() -> None:
    script = "import os, sys; sys.stderr.write(os.environ['WORDS'] + '\\n\\n'); sys.exit(3)"
    ended = run_to_end([sys.executable, "-c", script], 30, {"WORDS": "no\nhttps://me:secret@host/simple is away"})
    assert (ended.status, ended.last_line) == (3, "https://***@host/simple is away")
    assert mask_credentials("http://a:b@c http://d:e@f/g") == "http://***@c http://***@f/g"


def test_neither_names_nor_passwords_of_an_index_are_told(
    no_network: None, monkeypatch: pytest.MonkeyPatch, messages: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    messages.set_level(logging.DEBUG)
    with pytest.raises(SourceUnavailable) as caught:
        movielens_100k.read_wheel()
    assert "secret" not in str(caught.value) + messages.text


def test_importing_the_room_loads_neither_tensorflow_nor_arrow() -> None:
    script = "import sys, mtsearch.data; print(*({'tensorflow', 'pyarrow', 'optuna'} & {*sys.modules}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
