"""The guide: every page can be reached, and its examples and statements are true."""

import ast
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from optuna.trial import TrialState

from mtsearch import StudyDefinition, api, guide
from mtsearch.cli import cli
from mtsearch.metrics import METRICS
from mtsearch.study_file.config import PARAMETERS
from mtsearch.study_file.definition import DEFAULT
from mtsearch.study_file.load import read_study_file, shipped
from tests.helpers.documents import DOCUMENTS, PAGES, ROOT, Document, all_commands, command_named, options_of, parse
from tests.helpers.trainers import quick_formula

MOST_LINES = 300
of_each = pytest.mark.parametrize("name", DOCUMENTS)
of_each_page = pytest.mark.parametrize("name", PAGES)


@of_each_page
def test_a_page_begins_with_its_title_and_is_no_book(name: str) -> None:
    page = PAGES[name]
    assert page.text.startswith("# ")
    assert page.headings("h1") == [guide.guide_topics()[name]]
    assert page.text.count("\n") <= MOST_LINES


def test_every_page_is_a_topic_and_is_read_as_it_is() -> None:
    topics = guide.guide_topics()
    assert topics.keys() == PAGES.keys()
    assert len(set(topics.values())) == len(topics)
    for name, page in PAGES.items():
        assert guide.guide(name) == page.text


@pytest.mark.parametrize(("topic", "meant"), [("serch", "searching"), ("study_file", "study-file"), ("../api", "data")])
def test_an_unknown_topic_is_refused_with_the_nearest(topic: str, meant: str) -> None:
    with pytest.raises(ValueError, match=meant):
        guide.guide(topic)


@of_each
def test_links_lead_somewhere(name: str) -> None:
    document = DOCUMENTS[name]
    for link in document.links:
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (document.path.parent / target).resolve() if target else document.path
        assert path.is_file(), link
        # A page is read where the package is installed, too.
        assert name not in PAGES or path.parent == document.path.parent, link
        assert not anchor or anchor in Document(path).anchors, link


@of_each
def test_commands_are_what_the_command_line_takes(name: str) -> None:
    for arguments in DOCUMENTS[name].commands():
        try:
            context = parse(arguments)
        except (click.UsageError, click.exceptions.Exit) as error:
            pytest.fail(f"mtsearch {' '.join(arguments)}: {error}")
        definition = context.params.get("definition", "own.toml") or DEFAULT
        if not definition.endswith((".toml", ".csv")):  # `data` takes a table too
            assert definition in shipped(), arguments
            StudyDefinition.load(definition, context.params["overrides"])


@of_each
def test_commands_within_the_text_have_the_options_that_they_are_said_to_have(name: str) -> None:
    for span in DOCUMENTS[name].code_spans:
        words = span.split()
        if words[0] != "mtsearch" or len(words) == 1 or words[1] == "COMMAND":
            continue
        command, rest = command_named([word for word in words[1:] if word != "--debug"])
        assert command is not cli or rest[0].startswith("-"), span
        named = {word.partition("=")[0] for word in rest if word.startswith("-")} - {"--help"}
        assert named <= options_of(command), span


@of_each
def test_options_within_the_text_exist(name: str) -> None:
    known = {option for _, command in all_commands() for option in options_of(command)}
    named = {span.split()[0] for span in DOCUMENTS[name].code_spans if span.startswith("--")}
    assert named <= known


def test_every_command_and_option_is_in_the_guide() -> None:
    texts = [text for page in PAGES.values() for text in (*page.code_spans, *page.blocks("bash"))]
    words = {word for text in texts for word in re.split(r"[\s=]+", text)}
    for name, command in all_commands():
        assert name in words
        for option in command.params:
            assert not isinstance(option, click.Option) or words & {*option.opts}, (name, option.opts)


@of_each
def test_study_files_are_valid(name: str) -> None:
    for block in DOCUMENTS[name].blocks("toml"):
        raw = tomllib.loads(block)
        is_whole = "name" in raw.get("study", {}) and ("space" in raw or "trials" in raw)
        StudyDefinition.from_mapping(raw if is_whole else _completed(raw))


def _completed(part: Mapping[str, Any]) -> dict[str, Any]:
    """Put a part of a study file in place of the same part of the default one."""
    _, whole = read_study_file(DEFAULT, (), {})
    if "space" in part:
        whole["space"] = {}
        whole["fixed"] = {key: value for key, value in whole["fixed"].items() if key not in part["space"]}
    for table, values in part.items():
        whole[table] = {**whole.get(table, {}), **values} if isinstance(values, dict) else values
    return whole


@of_each
def test_python_compiles_and_imports_what_there_is(name: str) -> None:
    for block in DOCUMENTS[name].blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mtsearch"):
                module = import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@of_each
def test_names_of_the_package_within_the_text_exist(name: str) -> None:
    for span in DOCUMENTS[name].code_spans:
        for match in re.finditer(r"(?<![/\w])mtsearch((?:\.[A-Za-z_]\w*)+)", span):
            found: Any = import_module("mtsearch")
            for part in match[1].split(".")[1:]:
                found = getattr(found, part, None) or import_module(f"{found.__name__}.{part}")


@of_each
def test_scripts_and_files_of_the_repository_exist(name: str) -> None:
    document = DOCUMENTS[name]
    spans = [*document.code_spans, *document.blocks("bash")]
    for script in {script for span in spans for script in re.findall(r"python -m (tests\.[\w.]+)", span)}:
        assert (ROOT / script.replace(".", "/")).with_suffix(".py").is_file(), script
    for path in {span for span in spans if re.fullmatch(r"(dashboards/ml-100k|tests)/[\w./-]*", span)}:
        assert (ROOT / path).exists(), path


def test_every_result_has_a_command_that_makes_it() -> None:
    chapters = re.split(r"^## ", PAGES["results"].text, flags=re.MULTILINE)[1:]
    assert len(chapters) > 5
    for chapter in chapters:
        assert re.search(r"python -m tests\.benchmarks\.\w+|`mtsearch \w+|^mtsearch \w+", chapter, re.MULTILINE), (
            chapter
        )


def test_every_parameter_has_its_row_with_its_default() -> None:
    rows = {cells[0].strip("`"): cells for cells in PAGES["study-file"].rows() if len(cells) == 3}
    for name, field in PARAMETERS.items():
        assert name in rows, f"a row for {name} is missing in the table of parameters"
        if name == "loss_ratio":  # without it there are two weights
            continue
        default = field.default
        written = str(default).lower() if isinstance(default, bool | str) else f"{default:g}"
        assert rows[name][2].strip('`"') == written, name


def test_every_metric_has_its_row_with_its_direction() -> None:
    rows = {cells[0].strip("`"): cells for cells in PAGES["tasks-and-metrics"].rows() if len(cells) == 4}
    for key, metric in METRICS.items():
        assert key in rows, f"a row for {key} is missing in the table of metrics"
        assert rows[key][1] == ("lower" if metric.direction == "minimize" else "higher"), key
        assert rows[key][2].removesuffix("s") == (metric.per or "pair"), key


def test_queries_answer(tmp_path: Path) -> None:
    queries = [
        words[2] for page in PAGES.values() for words in page.shell_commands() if words[0] == "sqlite3" and words[2:]
    ]
    assert len(queries) >= 2
    database = tmp_path / "study.db"
    api.run(StudyDefinition.load(DEFAULT), trials=3, storage=database, make_trainer=quick_formula)
    with sqlite3.connect(database) as connection:
        for query in queries:
            rows = connection.execute(query).fetchall()
            assert rows and all(value is not None for row in rows for value in row), query


def test_its_pruner_prunes_in_an_optuna_study() -> None:
    (example,) = [block for block in PAGES["searching"].blocks("python") if "MultiObjectivePruner" in block]

    def train_an_epoch(size: float, epoch: int) -> tuple[float, float]:
        return abs(size - 0.3) + 1 / epoch, abs(size - 0.7) * -1

    space: dict[str, Any] = {"train_an_epoch": train_an_epoch}
    exec(example, space)
    states = [trial.state for trial in space["study"].trials]
    assert len(states) == 60
    assert {*states} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.slow
def test_its_model_of_ones_own_is_one(tmp_path: Path) -> None:
    """The guide's custom model is made for the quick study's data and tried out as `run` does before a trial."""
    (example,) = PAGES["own-model"].blocks("python")
    (tmp_path / "model_of_the_guide.py").write_text(example, encoding="utf-8")
    code = (
        "from mtsearch import StudyDefinition, TrialConfig, prepare\n"
        "from mtsearch.models.custom_model import ModelFactory\n"
        "from mtsearch.study_file.sections import ModelSection\n"
        "_, split = prepare(StudyDefinition.load('ml-100k-quick'))\n"
        "model = ModelFactory(ModelSection(factory='model_of_the_guide:make')).make(TrialConfig(), split)\n"
        "assert len(model.trainable_weights) == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, env=_with_this_tree()
    )
    assert done.returncode == 0, done.stderr


def _with_this_tree() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_wheel_holds_the_pages(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name).decode() for name in archive.namelist() if name.startswith("mtsearch/guide/")}
    del held["mtsearch/guide/__init__.py"]
    assert held == {f"mtsearch/guide/{name}.md": page.text for name, page in PAGES.items()}
