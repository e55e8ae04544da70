"""Tests of the last line of `mtsearch run`, whose commands can be typed as they are."""

from dataclasses import replace

import pytest

from mtsearch import StudyDefinition
from mtsearch.cli.run import print_summary
from tests.helpers.results import realistic


@pytest.mark.parametrize(
    ("study", "storage", "options"),
    [
        ("mine", None, "--study mine"),
        ("my study; rm x", None, "--study 'my study; rm x'"),
        ("mine", "my runs/a.db", "--study mine --storage 'my runs/a.db'"),
        ("mine", "postgresql://me:secret@host/db", "--study mine --storage 'postgresql://me:***@host/db'"),
    ],
)
def test_next(capsys: pytest.CaptureFixture[str], study: str, storage: str | None, options: str) -> None:
    print_summary(replace(realistic(), name=study), StudyDefinition.load("ml-100k"), "place", storage)
    hint = capsys.readouterr().err.splitlines()[-1]
    assert hint == f"next: mtsearch front {options} · mtsearch plot {options}"
