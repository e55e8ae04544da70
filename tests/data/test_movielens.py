"""The real builder of TensorFlow Datasets, with the archive from a server on this machine."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mtsearch.data import load, movielens
from mtsearch.data.movielens import EDITIONS
from mtsearch.errors import SourceUnavailable
from mtsearch.study_file.sections import DataSection

SMALL = EDITIONS["movielens/100k"]

# What the user's own `tfds.load` does, with another URL.
PREPARE = """
import sys
import tensorflow_datasets as tfds
tfds.disable_progress_bar()
for table in ("ratings", "movies"):
    builder = tfds.builder("movielens/100k-" + table)
    builder.builder_config._download_url = sys.argv[1]
    builder.download_and_prepare()
"""


def write_tenth(original: Path, path: Path) -> None:
    """Write an archive with every tenth rating of another one: the preparation takes 10 s per 100,000 rows."""
    with zipfile.ZipFile(original) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as part:
        for name in whole.namelist():
            lines = whole.read(name).splitlines(keepends=True)
            part.writestr(name, b"".join(lines[:: 10 if name.endswith("u.data") else 1]))


@pytest.mark.slow
def test_what_tensorflow_datasets_prepared_is_the_same_table(
    host: str,
    original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    messages: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    assert not movielens.is_prepared(SMALL)
    write_tenth(original, tmp_path / "tenth.zip")  # the host serves this folder
    subprocess.run([sys.executable, "-c", PREPARE, f"{host}/tenth.zip"], check=True, capture_output=True)
    assert movielens.is_prepared(SMALL)
    # No network from here on.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    table = load(DataSection())
    assert messages.messages == ["data: MovieLens 100K from TensorFlow Datasets"]
    expected = load(DataSection(source=str(tmp_path / "tenth.zip")))
    assert len(table.rows) == 10_000
    assert table.fingerprint == expected.fingerprint
    assert table.item_ids.tolist() == expected.item_ids.tolist()
    assert table.catalogue is not None
    assert expected.catalogue is not None
    assert table.catalogue.tolist() == expected.catalogue.tolist()


@pytest.mark.slow
def test_a_reader_that_fails_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ("ratings", "movies"):
        folder = tmp_path / "movielens" / f"100k-{table}" / "0.1.1"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(SourceUnavailable, match=r"TensorFlow Datasets failed: \w+: ") as caught:
        movielens.read_tfds(SMALL)
    assert "\n" not in str(caught.value)
