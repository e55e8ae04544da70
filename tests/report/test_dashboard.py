"""What optuna-dashboard is given: small, and with nobody's text as markup."""

import json
import re

import pytest

from mtsearch.report.commands import command
from mtsearch.report.dashboard import MOST_TRIALS, note, publication
from tests.report.records import HOSTILE, hostile, realistic, record, row, with_history
from tests.report.test_figures import texts


def test_the_note_says_what_it_is_what_is_best_and_what_next() -> None:
    text = note(realistic(), "mine.db").replace("\\", "")
    for part in ("# ml-100k", "51 trials so far", "| knee | 43 | 0.9952 | 0.2701 |", "| best RMSE | 8 |",
                 "| biases | 0.942 | 0.183 |", "The front beats the best baseline of each objective.",
                 "mtsearch export --study ml-100k --storage mine.db --pick knee -o best.toml"):  # fmt: skip
        assert part in text


def test_a_study_without_trials_has_a_note() -> None:
    assert "No trial has completed yet" in note(record(baselines={})).replace("\\", "")


def test_hostile_names_are_no_markdown_and_no_html() -> None:
    text, _, code = note(hostile()).partition("~~~~")
    assert "\\<img src\\=x onerror\\=alert\\(1\\)\\>" in text
    assert not re.search(r"(?<!\\)[<>`*\[\]$&!]", text)
    assert HOSTILE in code.replace("'\"'\"'", "'")  # a code block shows it as it is
    assert code.count("~~~~") == 1


def test_a_name_cannot_end_the_code_block() -> None:
    text = note(record(name="~~~~\n<img src=x>"))
    assert [line for line in text.splitlines() if line.startswith("~~~~")] == ["~~~~", "~~~~"]


def test_figures_of_a_thousand_trials_are_small() -> None:
    study = with_history(realistic(trials=1000), epochs=50)
    published = publication(study)
    assert set(published.figures) == {"front-with-baselines", "hypervolume", "curves-rmse", "curves-top_100"}
    sizes = {name: len(figure.to_json()) for name, figure in published.figures.items()}
    assert max(sizes.values()) < 250_000, sizes
    data = {trace["name"]: trace for trace in json.loads(published.figures["front-with-baselines"].to_json())["data"]}
    assert data["front"]["customdata"] == [each.trial for each in study.front]
    assert len(data["trials"]["x"]) == MOST_TRIALS


def test_hostile_text_is_escaped_in_the_figures() -> None:
    for figure in publication(with_history(hostile())).figures.values():
        shown = [text for text in texts(json.loads(figure.to_json())) if text != HOSTILE]  # a shape's identifier
        assert not [text for text in shown if "<img" in text or "<script" in text]


@pytest.mark.parametrize("study", [record(), record(baselines={}), record([row(0, 1.0, 0.1)])])
def test_small_studies_are_published(study: object) -> None:
    assert "front-with-baselines" in publication(study).figures  # type: ignore[arg-type]


def test_commands_are_for_a_shell() -> None:
    assert command("plot", "a b; $(rm)", None) == "mtsearch plot --study 'a b; $(rm)'"
