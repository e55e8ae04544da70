"""MovieLens through TensorFlow Datasets, without the minutes that it waits for a host that is away."""

import http.client
import logging
import os
import queue
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from mtsearch.data import cache
from mtsearch.data.interactions import Interactions
from mtsearch.data.processes import masked, run_to_end
from mtsearch.errors import SourceUnavailable

logger = logging.getLogger("mtsearch")


@dataclass(frozen=True)
class Edition:
    """One of the MovieLens data sets.

    Attributes:
        size: as TensorFlow Datasets names it.
        rows: number of ratings.
        url: the archive that TensorFlow Datasets downloads.
        patience: seconds until an answer of the archive's host counts as none.
    """

    size: str
    rows: int
    url: str
    patience: float = 20

    @property
    def source(self) -> str:
        """The name in a study file."""
        return f"movielens/{self.size}"

    @property
    def title(self) -> str:
        """The name in a message."""
        return f"MovieLens {self.size.upper()}"

    @property
    def deadline(self) -> float:
        """Seconds for download and conversion: two minutes, and one second for every 2,500 rows more.

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


def read(edition: Edition) -> Interactions:
    """The data set as TensorFlow Datasets gives it, downloaded and prepared there if it is not yet.

    Raises:
        SourceUnavailable: the host does not answer, or TensorFlow Datasets fails or takes too long.
    """
    if not prepared(edition):
        reason = probe(edition.url, edition.patience)
        if reason:
            raise SourceUnavailable(f"{edition.url} could not be reached: {reason}")
        logger.info("data: TensorFlow Datasets prepares %s, %.0f minutes at most", edition.title, edition.deadline / 60)
    with tempfile.TemporaryDirectory(prefix="mtsearch-") as folder:
        out = Path(folder) / "interactions.arrow"
        command = [sys.executable, "-m", "mtsearch.data.tfds_reader", edition.size, str(out)]
        # NOTE: -1 hides the accelerators: reading ratings would otherwise take all of their memory.
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        ended = run_to_end(command, edition.deadline, quiet)
        interactions = cache.read(out, edition.source) if ended.status == 0 else None
    if interactions is None:
        reason = f"not done after {edition.deadline:.0f} s" if ended.status is None else ended.last_line
        raise SourceUnavailable(f"TensorFlow Datasets failed: {reason or f'exit status {ended.status}'}")
    return interactions


def prepared(edition: Edition) -> bool:
    """TensorFlow Datasets has the ratings and the movies in its own folder, and needs no network."""
    folder = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser() / "movielens"
    return all(any(folder.glob(f"{edition.size}-{table}/*/dataset_info.json")) for table in ("ratings", "movies"))


def probe(url: str, seconds: float) -> str:
    """Why no archive comes from `url` within `seconds`, names and proxies resolved; empty where one does."""
    # NOTE: in a thread, since no timeout of the standard library bounds the resolving of names.
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(_knock(url, seconds)), daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} s"


def _knock(url: str, seconds: float) -> str:
    try:
        # NOTE: urlopen would keep the proxies of the first call of the process.
        with urllib.request.build_opener().open(url, timeout=seconds) as response:
            # A proxy's page of apology has status 200 too.
            return "" if response.read(2) == b"PK" else "what answers is not a zip archive"
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except urllib.error.HTTPError as error:
        return masked(str(error))
    except urllib.error.URLError as error:
        return masked(str(error.reason))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return masked(str(error) or type(error).__name__)
