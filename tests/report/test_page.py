"""The page as text: what it says, that it is whole, and that nobody's text becomes markup."""

import base64
import gzip
import hashlib
import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mtsearch.errors import MachineError
from mtsearch.report.drawing import plotly_js
from mtsearch.report.markup import Html, packed, tag
from mtsearch.report.page import OPEN_FAILURES, page, write_page
from mtsearch.report.references import verdict
from mtsearch.search.record import Failure, StudyRecord
from tests.report.records import HOSTILE, hostile, realistic, record, row, with_history

VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Elements with their attributes, and the text outside scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attrs)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data + " "


def outline(study: StudyRecord) -> Outline:
    parsed = Outline(page(study).replace(plotly_js(), ""))
    assert parsed.open == []
    return parsed


def test_headlines() -> None:
    study = realistic()
    assert study.knee is not None
    text = outline(study).text
    for part in ("ml-100k", "50 complete, 2 failed", "knee: trial 43", "RMSE 0.9952 and top-100 accuracy 0.2701"):
        assert part in text
    assert f"{study.hypervolume:.4g}" in text
    assert "biases, beaten" in text
    assert "2025-03-01 09:30 to 2025-03-01 09:42" in text


def test_failures_and_passport() -> None:
    parsed = outline(realistic())
    assert "non-finite loss at epoch 2, step 14" in parsed.text
    assert "packages.tensorflow" in parsed.text
    assert "2.21.0" in parsed.text


def test_many_failures_are_folded() -> None:
    many = tuple(Failure(number, "out of memory", counted=True) for number in range(OPEN_FAILURES + 1))
    assert "11 failed trials" in outline(replace(realistic(), failures=many)).text
    assert "failed trials" not in outline(replace(realistic(), failures=many[1:])).text


def test_verdicts() -> None:
    assert verdict(record()) == "No trial has completed yet, so there is no front."
    assert "does not beat popularity in top-100 accuracy (0.295)" in verdict(record([row(0, 0.93, 0.2)]))
    both = verdict(record([row(0, 0.95, 0.2)]))
    assert "does not beat biases in RMSE (0.942) and popularity in top-100 accuracy (0.295)" in both
    searched = record([row(0, 0.93, 0.2)], definition={"space": {"learning_rate": {"low": 0.1, "high": 1.0}}})
    assert verdict(searched).endswith("no trial is better. A longer or wider search may be.")
    assert both.endswith("no trial is better.")  # nothing is searched, so nothing can be searched longer
    assert verdict(record([row(0, 0.93, 0.3)])).endswith(
        "Its knee is better than chance, popularity and biases in both objectives at once."
    )
    assert verdict(record([row(0, 0.93, 0.3)], baselines={})).startswith("1 trial on the front; no baselines")


@pytest.mark.parametrize(
    "study", [record(), record(baselines={}), record([row(0, 1.0, 0.1)], begun=None, ended=None, passport={})]
)
def test_small_studies_have_a_whole_page(study: StudyRecord) -> None:
    assert "Pareto front" in outline(study).text


def test_hostile_text_stays_text() -> None:
    ordinary, attacked = outline(realistic()), outline(hostile())
    assert {name for name, _ in attacked.elements} <= {name for name, _ in ordinary.elements}
    assert not [key for _, attributes in attacked.elements for key in attributes if key.startswith("on")]
    scripts = [
        [each.get("type") for name, each in parsed.elements if name == "script"] for parsed in (ordinary, attacked)
    ]
    assert scripts[0] == scripts[1]
    assert scripts[1].count(None) == 2  # plotly.js and ours; the rest is data
    assert attacked.text.count(HOSTILE) > 20


def test_nothing_is_fetched_and_only_the_pages_scripts_run() -> None:
    parsed = outline(realistic())
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert [a for name, a in parsed.elements if "src" in a or (name == "link" and a["href"] != "data:,")] == []


def test_plotly_from_its_server_must_be_what_is_installed() -> None:
    text = page(realistic(), plotlyjs="cdn")
    assert len(text) < 300_000
    (source,) = [each for _, each in Outline(text).elements if "src" in each]
    assert (source["src"] or "").startswith("https://cdn.plot.ly/plotly-")
    digest = base64.b64encode(hashlib.sha256(plotly_js().encode()).digest()).decode()
    assert source["integrity"] == f"sha256-{digest}"
    policy = next(a["content"] for _, a in Outline(text).elements if a.get("http-equiv")) or ""
    assert f"script-src {source['src']} 'sha256-" in policy


def test_sections_come_with_their_data() -> None:
    full, bare = outline(with_history(realistic())).text, outline(record([row(0, 1.0, 0.1)])).text
    for title in ("Hypervolume over trials", "Learning curves", "Parallel coordinates", "Importance", "Time per trial"):
        assert title in full
    assert "Learning curves" not in bare
    assert "Parallel coordinates" not in bare
    assert "Time per trial" not in bare
    without = outline(replace(with_history(realistic()), importances={})).text
    assert "Not computed: no parameter tells the best trials from the others." in without
    few = replace(with_history(realistic()), importances={}, rows=realistic().rows[:9])
    assert "Not computed: it takes 20 complete trials, and there are 9." in outline(few).text


def test_a_thousand_trials_stay_under_seven_megabytes() -> None:
    study, random = with_history(realistic(trials=1000), epochs=100), np.random.default_rng(0)
    more = [f"parameter_{number}" for number in range(12)]
    wide = tuple(
        replace(each, params={**each.params, **dict(zip(more, random.normal(size=12).tolist(), strict=True))})
        for each in study.rows
    )
    assert len(page(replace(study, rows=wide)).encode()) < 7_000_000


def test_packed_data_is_what_it_was_and_no_markup() -> None:
    script = packed(HOSTILE, "data")
    content = script.removeprefix('<script type="application/gzip" id="data">').removesuffix("</script>")
    assert content.isascii()
    assert not set("<>&\"'") & set(content)
    assert gzip.decompress(base64.b64decode(content)).decode() == HOSTILE
    assert packed(HOSTILE, "data") == script  # the same page twice is the same file


def test_markup_escapes_whatever_is_not_html() -> None:
    assert tag("p", "<b>", Html("<i></i>"), class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;<i></i></p>'


def test_write_page_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for study in (record(), replace(realistic(), name="Ärger \ud800")):
        assert write_page(study, folder) == folder / "index.html"
    assert "Ärger" in (folder / "index.html").read_text(encoding="utf-8")
    assert os.listdir(folder) == ["index.html"]  # noqa: PTH208 # hidden files too


def test_a_name_that_ends_in_html_is_the_file(tmp_path: Path) -> None:
    for name in ("p.html", "P.HTM"):
        assert write_page(record(), tmp_path / "new" / name) == tmp_path / "new" / name
    assert sorted(each.name for each in (tmp_path / "new").iterdir() if each.is_file()) == ["P.HTM", "p.html"]
    (tmp_path / "folder.html").mkdir()
    assert write_page(record(), tmp_path / "folder.html") == tmp_path / "folder.html" / "index.html"


def test_a_failed_write_keeps_the_old_page(tmp_path: Path) -> None:
    (tmp_path / "index.html").mkdir()  # cannot be replaced by a file
    with pytest.raises(MachineError, match=r"cannot write .*index\.html: .*; name a place that can be written with -o"):
        write_page(record(), tmp_path)
    assert os.listdir(tmp_path) == ["index.html"]  # noqa: PTH208


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="name a place"):
        write_page(record(), tmp_path / "file" / "folder")
