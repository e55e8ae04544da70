"""Tests of finding, importing and refusing the function that makes custom models."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtsearch.errors import DefinitionError
from mtsearch.models import ModelFactory
from mtsearch.study_file.load import find_model_source, shipped_folder
from mtsearch.study_file.sections import ModelSection

MAKE = "def make(config, split):\n    return {}\n"


@pytest.fixture(autouse=True)
def _path_restored() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


def written(folder: Path, name: str, text: str) -> ModelSection:
    file = folder.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return ModelSection(factory=f"{name}:make", folder=str(folder))


def test_a_second_of_the_same_name_and_a_changed_text_are_imported_anew(tmp_path: Path) -> None:
    first = ModelFactory(written(tmp_path / "a", "twin_model", MAKE.format(1)))
    second = ModelFactory(written(tmp_path / "b", "twin_model", MAKE.format("22")))
    third = ModelFactory(written(tmp_path / "b", "twin_model", MAKE.format("333")))
    assert [made._function(None, None) for made in (first, second, third)] == [1, 22, 333]  # type: ignore[arg-type]


def test_a_custom_module_can_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "layers_beside.py").write_text("value = 5\n")
    model = written(
        tmp_path, "leaning_model", "def make(config, split):\n    import layers_beside as l\n    return l.value"
    )
    assert ModelFactory(model)._function(None, None) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no 'make'"),
        ("make = 7", "is not a function"),
        ("import nowhere_to_be_found", "importing it raised ModuleNotFoundError: .*nowhere_to_be_found.*line 1"),
        ("x = 1\ny = x / 0", r"raised ZeroDivisionError: division by zero \(bad_model.py, line 2\)"),
        ("def make(:", r"raised SyntaxError.*bad_model.py, line 1"),
    ],
)
def test_an_unusable_module_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as raised:
        ModelFactory(written(tmp_path, "bad_model", text))
    assert "\n" not in str(raised.value)


def test_a_missing_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=f"no module 'no_model' in {tmp_path}"):
        find_model_source(ModelSection(factory="no_model:make", folder=str(tmp_path)))


def test_a_custom_module_is_preferred_to_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model_source(ModelSection(factory="own_model:make")).root == shipped_folder()
    written(tmp_path / "installed", "own_model", MAKE.format(1))
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    assert find_model_source(ModelSection(factory="own_model:make")).root == tmp_path / "installed"


def test_a_change_under_a_running_study(tmp_path: Path) -> None:
    model = written(tmp_path, "moving_model", MAKE.format(1))
    before = find_model_source(model).fingerprint
    written(tmp_path, "moving_model", MAKE.format(2))
    with pytest.raises(DefinitionError, match="was changed while the study ran"):
        ModelFactory(model, before)


def test_the_fingerprint_is_of_the_text_and_of_the_whole_package(tmp_path: Path) -> None:
    alone = find_model_source(written(tmp_path / "a", "one_model", MAKE.format(1))).fingerprint
    assert (
        find_model_source(written(tmp_path / "b", "one_model", MAKE.format(1))).fingerprint == alone
    )  # wherever it is
    (tmp_path / "b" / "one_model.py").write_bytes(MAKE.format(1).replace("\n", "\r\n").encode())
    assert find_model_source(ModelSection(factory="one_model:make", folder=str(tmp_path / "b"))).fingerprint == alone
    model = written(tmp_path, "package_of_mine.parts.model", MAKE.format(1))
    (tmp_path / "package_of_mine" / "__init__.py").write_text("raise SystemExit")  # nothing is run to find it
    before = find_model_source(model).fingerprint
    (tmp_path / "package_of_mine" / "layers.py").write_text("x = 1")
    assert find_model_source(model).fingerprint != before


def test_the_folder_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = written(tmp_path, "wandering_model", MAKE.format(1))
    there = ModelSection(factory=here.factory, folder="/on/another/machine")
    with pytest.raises(DefinitionError, match="in /on/another/machine, the current folder"):
        find_model_source(there)
    monkeypatch.chdir(tmp_path)
    assert find_model_source(there) == find_model_source(here)
