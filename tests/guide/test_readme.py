"""README: short, complete, and with examples that work."""

from pathlib import Path

import pytest

from mtsearch import api, guide
from mtsearch.cli import COMMANDS
from mtsearch.study_file.export import Export
from tests.helpers.documents import PAGES, README
from tests.helpers.trainers import quick_formula

MOST_WORDS, MOST_LINES = 1200, 160


def test_it_is_short() -> None:
    assert len(README.text.split()) <= MOST_WORDS
    assert README.text.count("\n") <= MOST_LINES


def test_it_begins_with_the_two_commands() -> None:
    install_and_run, install_and_test, *_ = README.blocks("bash")
    assert install_and_run == "pip install -e . && mtsearch run --trials 50\n"
    assert install_and_test == "pip install -e '.[test]' && pytest\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(command: str) -> None:
    assert any(span.split()[:2] == ["mtsearch", command] for span in README.code_spans)


def test_every_page_of_the_guide_is_linked_by_its_title() -> None:
    for name, title in guide.guide_topics().items():
        assert f"[{title}](mtsearch/guide/{name}.md)" in README.text
    assert len([link for link in README.links if "guide/" in link]) >= len(PAGES)


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MTSEARCH_STORAGE", raising=False)
    assert api.run.__kwdefaults__ is not None
    monkeypatch.setitem(api.run.__kwdefaults__, "make_trainer", quick_formula)  # in place of seconds of TensorFlow
    (block,) = README.blocks("python")
    exec(block, {"__name__": "__main__"})
    assert capsys.readouterr().out.count("\n") >= 2
    assert Export.load(tmp_path / "best.toml").provenance.study == "ml-100k-quick"
