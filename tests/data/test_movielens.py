"""The real builder of TensorFlow Datasets, with the archive from a server on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from mtsearch.data import Interactions, load, movielens
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


@pytest.mark.slow
def test_what_tensorflow_datasets_prepared_is_the_same_table(
    host: str,
    ml_100k: Interactions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    messages: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    assert not movielens.is_prepared(SMALL)
    subprocess.run([sys.executable, "-c", PREPARE, f"{host}/ml-100k.zip"], check=True, capture_output=True)
    assert movielens.is_prepared(SMALL)
    # No network from here on.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    table = load(DataSection())
    assert messages.messages == ["data: MovieLens 100K from TensorFlow Datasets"]
    assert table.fingerprint == ml_100k.fingerprint
    assert table.item_ids.tolist() == ml_100k.item_ids.tolist()
    assert table.catalogue is not None
    assert ml_100k.catalogue is not None
    assert table.catalogue.tolist() == ml_100k.catalogue.tolist()


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
