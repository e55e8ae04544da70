"""Tests of `mtsearch dashboard`: the real server in a separate process, over HTTP and in a browser."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mtsearch import api
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data
from tests.helpers.results import HOSTILE
from tests.helpers.trainers import FormulaTrainer, make_factory, quick_formula
from tests.search.test_run import define

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GRAPHS = {"front-with-baselines", "hypervolume", "curves-rmse", "curves-top_100"}


@dataclass
class Served:
    said: list[str]
    address: str
    process: subprocess.Popen[str]
    taken: int = 0

    def ask(self, path: str, method: str = "GET") -> Any:
        host = self.address.partition("/dashboard")[0]
        request = urllib.request.Request(host + path, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def published(self, number: int = 1, trials: int = 1) -> Any:
        """Wait until the note and a number of graphs of the study are there, and return the study."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            study = self.ask(f"/api/studies/{number}")
            graphs = {graph["id"] for graph in study["plotly_graph_objects"]}
            if f" {trials} trial" in study["note"]["body"] and graphs == GRAPHS:
                return study
            time.sleep(0.2)
        raise AssertionError("nothing was published")


@contextmanager
def served(storage: str, *options: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "mtsearch", "dashboard", "--storage", storage, *options]
    process = subprocess.Popen(command, cwd=Path(storage).parent, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.strip())
            if " is shown on " in line:
                break
        assert said, "it ended without a word"
        assert " is shown on " in said[-1], said
        yield Served(said, said[-1].partition(" is shown on ")[2].partition(";")[0], process)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
        assert (process.returncode, rest) == (0, "")
    finally:
        process.kill()
        process.communicate()


HOSTILE_NAME = HOSTILE[:60].strip()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a database with two studies, of which one goes on in the tests."""
    folder = tmp_path_factory.mktemp("stored")
    path, data = str(folder / "a.db"), small_data(folder)
    for name in ("first", HOSTILE_NAME):
        definition = define(data, study={"name": name, "seed": 1})
        api.run(definition, 3, storage=path, make_trainer=make_factory(FormulaTrainer()))
    return path


@pytest.fixture(scope="module")
def of_first(stored: str) -> Iterator[Served]:
    """Run a server that shows the first study and was asked to listen on a port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with served(stored, "--study", "first", "--port", str(port)) as dashboard:
            dashboard.taken = port
            yield dashboard
    assert not list(Path(stored).parent.glob("*-wal"))  # the file alone is the whole study again


@pytest.fixture(scope="module")
def of_last(stored: str) -> Iterator[Served]:
    """Run a server that shows the last study."""
    with served(stored, "--port", "0") as dashboard:
        yield dashboard


@pytest.mark.slow
def test_note_graphs_and_names_over_http_and_nothing_can_be_changed(of_first: Served) -> None:
    dashboard = of_first
    assert dashboard.address.endswith("/dashboard/studies/1")
    names = [each["study_name"] for each in dashboard.ask("/api/studies")["study_summaries"]]
    assert sorted(names) == sorted(["first", HOSTILE_NAME])
    study = dashboard.published(trials=3)
    assert study["objective_names"] == ["rmse", "top_100"]
    assert "mtsearch export --study first --storage" in study["note"]["body"]
    for graph in study["plotly_graph_objects"]:
        assert json.loads(graph["graph_object"])["data"]
    for method, path in (("DELETE", "/api/studies/1"), ("POST", "/api/studies"), ("PUT", "/api/studies/1/note")):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            dashboard.ask(path, method)
    assert len(dashboard.ask("/api/studies")["study_summaries"]) == 2


@pytest.mark.slow
def test_a_taken_port_moves_on_and_says_so(of_first: Served) -> None:
    assert of_first.said[0].startswith(f"port {of_first.taken} is in use; listening on port ")
    assert f":{of_first.taken}/" not in of_first.address


@pytest.mark.slow
def test_what_is_not_there_is_one_line_and_no_file(mtsearch: Command, tmp_path: Path, stored: str) -> None:
    missing = mtsearch("dashboard", "--storage", "none.db", "--port", "0")
    assert missing.status == 1
    (line,) = missing.err.splitlines()
    assert line.startswith("error: no database at ")
    assert not (tmp_path / "none.db").exists()
    unknown = mtsearch("dashboard", "--storage", stored, "--study", "nobody", "--port", "0")
    assert unknown.status == 1
    assert unknown.err.startswith("error: no study 'nobody' made by mtsearch in the storage; it holds: ")
    elsewhere = mtsearch("dashboard", "--storage", stored, "--host", "192.0.2.1", "--port", "0")
    assert elsewhere.status == 1
    assert elsewhere.err.splitlines()[-1].startswith("error: cannot listen on 192.0.2.1:0: ")


@pytest.mark.slow
def test_it_goes_along_beside_workers_and_hinders_none(stored: str, of_last: Served) -> None:
    of_last.published(2, trials=3)
    definition = define(str(Path(stored).parent / "data"), study={"name": HOSTILE_NAME, "seed": 1})
    results = api.run(definition, 60, workers=2, storage=stored, make_trainer=quick_formula)
    assert results.counting == 63
    assert results.failures == ()
    assert len(of_last.published(2, trials=63)["trials"]) == 63


@pytest.mark.slow
def test_in_a_browser(browser: "Browser", stored: str, of_last: Served) -> None:
    of_last.published(2, trials=api.load_study(HOSTILE_NAME, stored).counting)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    trouble: list[str] = []
    page.on("dialog", lambda dialog: trouble.append(dialog.message))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(of_last.address.partition("/studies")[0])
    page.wait_for_selector("text=first")
    page.goto(of_last.address)
    page.wait_for_selector("#graph-pareto-front .main-svg")
    for name in GRAPHS:
        page.wait_for_selector(f"[id='user-defined-plot:{name}'] .main-svg")
    page.goto(f"{of_last.address}/note")
    page.wait_for_selector("text=Best points")
    assert "<img src=x onerror=alert(1)>" in page.inner_text("body")
    assert page.locator("img[src=x]").count() == 0
    assert trouble == []
    page.close()
