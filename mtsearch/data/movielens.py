"""Load an edition of MovieLens from the cache, else from TensorFlow Datasets, else (100K) from the RecBole wheel.

TensorFlow Datasets runs in a separate process, `python -m mtsearch.data.movielens SIZE OUT`: it can be killed at any
time, and the main process saves the time of TensorFlow's import and the memory that it keeps.
"""

from __future__ import annotations

import http.client
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mtsearch.data.interactions import Interactions, read_arrow, write_arrow
from mtsearch.errors import SourceUnavailable
from mtsearch.files import cache_folder

logger = logging.getLogger("mtsearch")


@dataclass(frozen=True)
class Edition:
    """One of the MovieLens data sets.

    Attributes:
        size: name of the size in TensorFlow Datasets.
        rows: number of ratings.
        url: URL of the archive that TensorFlow Datasets downloads.
        patience: seconds to wait for an answer of the archive's host.
    """

    size: str
    rows: int
    url: str
    patience: float = 20

    @property
    def source(self) -> str:
        """Name of the edition in a study file."""
        return f"movielens/{self.size}"

    @property
    def title(self) -> str:
        """Name of the edition in a message."""
        return f"MovieLens {self.size.upper()}"

    @property
    def deadline(self) -> float:
        """Time limit in seconds for download and conversion: 120, plus 1 for every 2,500 rows beyond 100,000.

        Two cores convert about 10,000 rows a second; MovieLens 100K takes 22 s in all, half of it imports.
        """
        return 120 + (self.rows - 100_000) / 2_500


EDITIONS = {
    edition.source: edition
    for edition in (
        Edition("100k", 100_000, "https://files.grouplens.org/datasets/movielens/ml-100k.zip"),
        Edition("1m", 1_000_209, "https://files.grouplens.org/datasets/movielens/ml-1m.zip"),
        Edition("20m", 20_000_263, "https://files.grouplens.org/datasets/movielens/ml-20m.zip"),
        Edition("25m", 25_000_095, "https://files.grouplens.org/datasets/movielens/ml-25m.zip"),
    )
}


def load_movielens(edition: Edition) -> Interactions:
    """Load an edition of MovieLens from the cache, else from TensorFlow Datasets, else (100K) from the package index.

    Raises:
        SourceUnavailable: none of these has the data.
    """
    path = cache_file(edition.source)
    interactions = read_arrow(path, edition.source)
    if interactions:
        logger.info("data: %s from the cache %s", edition.title, path)
        return interactions
    interactions, origin = _fetch(edition)
    logger.info("data: %s from %s", edition.title, origin)
    keep_in_cache(path, edition.source, interactions)
    return interactions


def _fetch(edition: Edition) -> tuple[Interactions, str]:
    try:
        return read_tfds(edition), "TensorFlow Datasets"
    except SourceUnavailable as error:
        reason = error.problem
    if edition.size != "100k":
        raise SourceUnavailable(
            f"{edition.title} is not available: {reason}",
            "set HTTPS_PROXY if a proxy is needed, or TFDS_DATA_DIR to a folder that has the data already, "
            "or use --set data.source=movielens/100k",
        )
    try:
        from mtsearch.data.movielens_100k import read_wheel

        return read_wheel(), f"the RecBole wheel of the package index ({reason})"
    except SourceUnavailable as error:
        raise SourceUnavailable(
            f"{edition.title} is not available: {reason}; {error.problem}",
            "set HTTPS_PROXY if a proxy is needed, or the index of pip or uv, "
            "or download ml-100k.zip on another machine and use --set data.source=path/to/ml-100k.zip",
        ) from error


def cache_file(source: str) -> Path:
    """Return the path of a named source's data in the cache."""
    return cache_folder() / f"{source.replace('/', '-')}.arrow"


def keep_in_cache(path: Path, source: str, interactions: Interactions) -> None:
    """Store the data in the cache; if that fails, only warn, since the data can be used without it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrow(path, source, interactions)
    except OSError as error:
        logger.warning(
            "data: cannot be cached in %s (%s); set MTSEARCH_CACHE to a folder that can be written",
            path,
            error.strerror,
        )


def read_tfds(edition: Edition) -> Interactions:
    """Read an edition with TensorFlow Datasets, which downloads and prepares the data if needed.

    Raises:
        SourceUnavailable: the host does not answer, or TensorFlow Datasets fails or takes too long.
    """
    if not is_prepared(edition):
        reason = probe(edition.url, edition.patience)
        if reason:
            raise SourceUnavailable(f"{edition.url} could not be reached: {reason}")
        logger.info(
            "data: TensorFlow Datasets prepares %s; this takes %.0f minutes at most",
            edition.title,
            edition.deadline / 60,
        )
    with tempfile.TemporaryDirectory(prefix="mtsearch-") as folder:
        out = Path(folder) / "interactions.arrow"
        command = [sys.executable, "-m", "mtsearch.data.movielens", edition.size, str(out)]
        # NOTE: -1 hides the accelerators: reading ratings would otherwise take all of their memory.
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        result = run_to_end(command, edition.deadline, quiet)
        interactions = read_arrow(out, edition.source) if result.status == 0 else None
    if interactions is None:
        reason = f"not finished after {edition.deadline:.0f} s" if result.status is None else result.last_line
        raise SourceUnavailable(f"TensorFlow Datasets failed: {reason or f'exit status {result.status}'}")
    return interactions


def is_prepared(edition: Edition) -> bool:
    """Tell whether the folder of TensorFlow Datasets has the ratings and movies, so that no network is needed."""
    folder = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser() / "movielens"
    return all(any(folder.glob(f"{edition.size}-{table}/*/dataset_info.json")) for table in ("ratings", "movies"))


def probe(url: str, seconds: float) -> str:
    """Return why `url` gives no archive within `seconds`; an empty text if it does."""
    # NOTE: the request runs in a thread, since no timeout of the standard library limits the look-up of host names.
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(_request(url, seconds)), daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} s"


def _request(url: str, seconds: float) -> str:
    try:
        # NOTE: urlopen would keep the proxy settings of the first call in the process.
        with urllib.request.build_opener().open(url, timeout=seconds) as response:
            # The error page of a proxy may have status 200 too, so the first bytes are checked.
            return "" if response.read(2) == b"PK" else "the answer is not a zip archive"
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except urllib.error.HTTPError as error:
        return mask_credentials(str(error))
    except urllib.error.URLError as error:
        return mask_credentials(str(error.reason))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return mask_credentials(str(error) or type(error).__name__)


@dataclass(frozen=True)
class ProgramResult:
    """The result of a program that was run.

    Attributes:
        status: exit status; None if it ran out of time and was killed.
        last_line: last line of its stderr; passwords in URLs are masked.
    """

    status: int | None
    last_line: str


def run_to_end(command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> ProgramResult:
    """Run a command without output for at most `seconds`, then kill it.

    Args:
        command: program and arguments.
        seconds: time limit.
        environment: variables that are added to those of this process.

    Raises:
        OSError: the program cannot be started.
    """
    # NOTE: stderr goes to a file, not a pipe: a grandchild that survives the kill would keep a pipe open, and the
    # reader would wait for it.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return ProgramResult(status, _last_line(errors))


def mask_credentials(text: str) -> str:
    """Replace the user and password of every URL in a text by `***`."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode("utf-8", "replace").split("\n")
    return mask_credentials(next((line.strip() for line in reversed(lines) if line.strip()), ""))


# Rows that are read at a time: enough that Python is not the bottleneck, few compared with the memory.
_TFDS_BATCH = 65_536


def convert_tfds(size: str) -> Interactions:
    """Convert the ratings of `movielens/SIZE`: item ids are titles, and the catalogue has all movies."""
    text: dict[bytes, str] = {}
    users: list[str] = []
    items: list[str] = []
    ratings, timestamps = [], []
    for batch in _tfds_batches(f"movielens/{size}-ratings", "user_id", "movie_title", "user_rating", "timestamp"):
        users.extend(_decode_strings(batch["user_id"], text))
        items.extend(_decode_strings(batch["movie_title"], text))
        ratings.append(batch["user_rating"])
        timestamps.append(batch["timestamp"])
    catalogue: list[str] = []
    for batch in _tfds_batches(f"movielens/{size}-movies", "movie_title"):
        catalogue.extend(_decode_strings(batch["movie_title"], text))
    return Interactions.from_columns(users, items, np.concatenate(ratings), np.concatenate(timestamps), catalogue)


def _tfds_batches(name: str, *features: str) -> Iterator[dict[str, Any]]:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    builder.download_and_prepare()
    wanted = tfds.decode.PartialDecoding(dict.fromkeys(features, True))
    yield from tfds.as_numpy(builder.as_dataset(split="train", batch_size=_TFDS_BATCH, decoders=wanted))


def _decode_strings(column: Any, text: dict[bytes, str]) -> Iterator[str]:
    """Decode bytes to strings, one object for each distinct value, without spaces around them.

    Some titles of TensorFlow Datasets end in a space; no other form of the data has it.
    """
    values = column.tolist()
    text.update((value, value.decode().strip()) for value in set(values) - text.keys())
    return map(text.__getitem__, values)


def write_tfds(size: str, out: str) -> int:
    """Write an edition to `out` as the cache stores it, and return the exit status; a failure is printed on stderr."""
    try:
        import tensorflow_datasets as tfds

        tfds.disable_progress_bar()
        write_arrow(Path(out), f"movielens/{size}", convert_tfds(size))
    except Exception as error:  # TensorFlow Datasets may raise any error; the caller then uses another source
        first = next(iter(str(error).splitlines()), "")
        print(f"\n{type(error).__name__}: {first}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(write_tfds(*sys.argv[1:]))
