"""The notebook of studies/ runs from top to bottom in a new kernel, and is stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mtsearch
from mtsearch.metrics import metrics_of

NOTEBOOK = Path(__file__).parents[1] / "studies" / "notebook.ipynb"


def cells(notebook: Any) -> dict[str, Any]:
    return {cell["id"]: cell for cell in notebook["cells"]}


def test_it_is_kept_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def scalars(path: Path) -> list[tuple[str, int, float]]:
    """Return tag, step and value of all scalars in an event file."""
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    events = [Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    return [(v.tag, event.step, float(tf.make_ndarray(v.tensor))) for event in events for v in event.summary.value]


def test_the_verbs_are_there_and_importing_the_package_is_light() -> None:
    heavy = {"tensorflow", "optuna", "plotly", "numpy", "pydantic", "sqlalchemy", "rich"}
    light = f"import sys, mtsearch; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", light], check=False).returncode == 0
    assert all(getattr(mtsearch, name) for name in mtsearch.__all__)
    assert {"StudyDefinition", "baselines", "front", "prepare", "run", "studies"} <= set(mtsearch.__all__)
    assert {"compare", "delete", "rename", "upgrade"} <= set(mtsearch.__all__)


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    logged: dict[str, list[tuple[str, int, float]]] = {}

    def look(cell: Any, **_: Any) -> None:
        if cell["id"] == "run":
            logged.update({path.parent.name: scalars(path) for path in tmp_path.glob("tmp*/logs/*/events.*")})

    client.on_cell_executed = look
    client.execute()
    done = cells(notebook)
    assert sorted(logged) == ["0", "1", "2", "3", "4"]
    for trial in logged.values():
        assert {(key, epoch) for key, epoch, _ in trial} == {(key, epoch) for key in metrics_of() for epoch in (1, 2)}
        assert all(0 < value < 5 for key, _, value in trial if key == "rmse")
    assert "epochs" in done["mistake"]["outputs"][0]["text"]
    assert "on_trial failed" not in str(done["run"]["outputs"])
    assert "trial 4: complete, (" in str(done["run"]["outputs"])
    html = done["front"]["outputs"][0]["data"]["text/html"]
    assert "ml-100k-quick" in html
    assert html.count("<tr") == 1 + len(done["members"]["outputs"][0]["text"].splitlines()) + 3
    assert len(html) < 20_000
    assert "application/vnd.plotly.v1+json" in done["figure"]["outputs"][0]["data"]
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".db")]  # noqa: PTH208
