"""Files that are written as a whole or not at all."""

from pathlib import Path

import pytest

from mtsearch.errors import MachineError
from mtsearch.files import replace_atomically, write_atomically

pytestmark = pytest.mark.quick


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_atomically(target, b"old")
    with replace_atomically(target) as aside, replace_atomically(target) as other:
        aside.write_text("new")
        other.write_text("newer")
        assert aside.suffix == ".txt"
        assert target.read_text() == "old"
    assert target.read_text() == "new"  # the one that ended last
    assert list(tmp_path.iterdir()) == [target]


def test_after_an_error_nothing_has_changed(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_atomically(target, b"old")
    with pytest.raises(KeyboardInterrupt), replace_atomically(target) as aside:
        aside.write_text("ne")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_are_made_and_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    write_atomically(tmp_path / "b" / "c" / f"{'long' * 60}.txt", b"here")
    with pytest.raises(
        MachineError, match=r"cannot write .*: Is a directory; choose a place that can be written with -o"
    ):
        write_atomically(tmp_path / "b", b"not here")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
