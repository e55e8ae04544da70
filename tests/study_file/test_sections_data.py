"""Paths of [data]: relative to the study file, the command line or an export."""

import os
from pathlib import Path

import pytest

from mtsearch.search.study import comparable_parts
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.export import Export
from mtsearch.study_file.sections import DataSection, SplitSection

pytestmark = pytest.mark.quick

STUDY = '[study]\nname = "s"\n[space]\nlearning_rate = { low = 0.1, high = 1.0 }\n'


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Give the folder of the study file and the current folder."""
    study, current = tmp_path / "study", tmp_path / "current"
    study.mkdir()
    current.mkdir()
    monkeypatch.chdir(current)
    return study, current


def loaded(folder: Path, data: str, *overrides: str) -> DataSection:
    (folder / "s.toml").write_text(f"{STUDY}[data]\n{data}\n")
    return StudyDefinition.load(os.path.relpath(folder / "s.toml"), overrides).data


def test_a_file_s_paths_are_relative_to_its_folder(folders: tuple[Path, Path]) -> None:
    study, _ = folders
    data = loaded(study, 'source = "../t.csv"\nitems = "sub/i.csv"')
    assert (data.source, data.items) == (str(study.parent / "t.csv"), str(study / "sub" / "i.csv"))


def test_the_command_line_s_are_relative_to_the_current_folder(folders: tuple[Path, Path]) -> None:
    study, current = folders
    data = loaded(study, 'source = "t.csv"\nitems = "i.csv"', "data.source=u.csv")
    assert (data.source, data.items) == (str(current / "u.csv"), str(study / "i.csv"))
    assert StudyDefinition.load("ml-100k", ["data.source=u.csv"]).data.source == str(current / "u.csv")


def test_of_a_mapping_too(folders: tuple[Path, Path]) -> None:
    raw = {"study": {"name": "s"}, "trials": [{}], "data": {"source": "t.csv"}}
    assert StudyDefinition.from_mapping(raw).data.source == str(folders[1] / "t.csv")
    assert raw["data"] == {"source": "t.csv"}


@pytest.mark.parametrize("source", ["movielens/100k", "movielens/100", "movielens/", "synthetic/1m"])
def test_names_are_no_paths(folders: tuple[Path, Path], source: str) -> None:
    assert loaded(folders[0], f'source = "{source}"').source == source


def test_absolute_paths_homes_and_links(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    study, _ = folders
    monkeypatch.setenv("HOME", str(study))
    (study / "blob").write_text("")
    (study / "t.csv").symlink_to("blob")
    assert loaded(study, 'source = "/x/t.csv"').source == "/x/t.csv"
    assert loaded(study, 'source = "~/t.csv"').source == str(study / "t.csv")
    assert DataSection(source="~nobody-here/t.csv").source == "~nobody-here/t.csv"


def test_what_is_written_down_is_read_again_from_anywhere(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = loaded(
        folders[0],
        'source = "t.csv"\ncolumns = { user = "who" }\nrating_range = [1, 5]\nout_of_range = "clip"\nmissing = "drop"',
    )
    text = Export.model_construct(data=data).model_dump(include={"data"}, exclude_none=True)
    monkeypatch.chdir("/")
    assert DataSection.model_validate(text["data"]) == data
    assert "item_columns" not in text["data"]


def test_a_study_that_was_begun_before_goes_on() -> None:
    """Newer keys of [split] are not stored if they are not used, so that an older study can go on."""
    assert SplitSection().model_dump(mode="json", exclude_none=True).keys() == {"method", "test", "validation", "seed"}
    resolved = StudyDefinition.load("ml-100k").resolved()
    assert "data" not in comparable_parts(resolved)


def test_a_column_of_weights_is_read_only_if_it_is_named(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'source = "t.csv"\ncolumns = { weight = "w" }').columns.weight == "w"
    assert loaded(tmp_path, 'source = "t.csv"').columns.weight is None
