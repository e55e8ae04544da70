"""The original files of MovieLens 100K, complete and damaged."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mtsearch.data import Interactions, load
from mtsearch.errors import MalformedData
from mtsearch.study_file.sections import DataSection

DATA = b"1\t1\t5\t100\n2\t1\t3\t200\n2\t2\t4\t300\n"
ITEM = b"".join(b"%d|%s|01-Jan-1995||http://example.org" % (n, t) + b"|0" * 19 + b"\n" for n, t in [(1, b"A (1995)"), (2, b"M\xe9 (1996) ")])  # fmt: skip  # noqa: E501


def folder(path: Path, data: bytes = DATA, item: bytes = ITEM) -> Path:
    path.mkdir(exist_ok=True)
    (path / "u.data").write_bytes(data)
    (path / "u.item").write_bytes(item)
    return path


def archive(path: Path, data: bytes = DATA, item: bytes = ITEM) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("ml-100k/u.data", data)
        file.writestr("ml-100k/u.item", item)
    return path


def read(path: Path) -> Interactions:
    return load(DataSection(source=str(path)))


def message(path: Path) -> str:
    with pytest.raises(MalformedData) as caught:
        read(path)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_titles_are_latin_1_and_keep_no_outer_spaces(tmp_path: Path) -> None:
    table = read(folder(tmp_path / "ml-100k"))
    assert table.user_ids.tolist() == ["1", "2"]
    assert table.item_ids.tolist() == ["A (1995)", "Mé (1996)"]
    assert table.rows.ratings.tolist() == [5, 3, 4]
    assert table.rows.timestamps.tolist() == [100, 200, 300]


def test_folder_zip_and_windows_line_ends_are_the_same_table(tmp_path: Path) -> None:
    forms = [
        folder(tmp_path / "a"),
        archive(tmp_path / "b.zip"),
        folder(tmp_path / "c", DATA.replace(b"\n", b"\r\n"), ITEM.replace(b"\n", b"\r\n")),
        folder(tmp_path / "d", DATA.rstrip(), ITEM + b"\n"),
    ]
    assert len({read(form).fingerprint for form in forms}) == 1


def test_an_item_without_a_rating_is_in_the_catalogue(tmp_path: Path) -> None:
    table = read(folder(tmp_path / "a", DATA[: DATA.index(b"2\t2")]))
    assert table.catalogue is not None
    assert table.item_ids[table.catalogue].tolist() == ["A (1995)", "Mé (1996)"]


@pytest.mark.parametrize("make", [folder, archive])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DATA.replace(b"\t3\t", b"\tthree\t"), "u.data, row 2, column '3': 'three' is not a number"),
        (DATA.replace(b"\t3\t", b"\t-inf\t"), "u.data, row 2: the rating -inf is not finite"),
        (DATA.replace(b"\t3\t", b"\t1e39\t"), "u.data, row 2: the rating 1e+39 is not finite"),
        (DATA.replace(b"300", b"9" * 19), "u.data, row 3, column '4': 1e+19 is too large for a time"),
        (DATA.replace(b"2\t2", b"2\t77"), "u.data, row 3: item '77' has no line in "),
        (DATA.replace(b"2\t2", b" \t2"), "u.data, row 3, column '1': no user"),
        (DATA.replace(b"\t200", b""), "u.data, line 2: 3 columns, but the first line has 4"),
        (DATA.replace(b"200", b"200\t9"), "u.data, line 2: 5 columns, but the first line has 4"),
        (b"", "u.data is empty"),
        (b"\n\r\n", "u.data is empty"),
    ],
)
def test_what_is_wrong_in_u_data_is_named_by_line_and_column(
    tmp_path: Path, make: Callable[[Path, bytes], Path], data: bytes, expected: str
) -> None:
    path = make(tmp_path / "ml-100k", data)
    told = message(path)
    assert str(path) in told
    assert expected in told


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (ITEM.replace(b"2|M", b"1|M"), "u.item, row 2, column '2': 'Mé (1996)' is a second title of item '1'"),
        (ITEM.replace(b"A (1995)", b"A|B"), "columns, but the first line has 25"),
        (b"", "u.item is empty"),
    ],
)
def test_what_is_wrong_in_u_item_is_named_by_line_and_column(tmp_path: Path, item: bytes, expected: str) -> None:
    assert expected in message(folder(tmp_path / "a", item=item))


def test_a_long_value_is_quoted_in_part(tmp_path: Path) -> None:
    assert len(message(folder(tmp_path / "a", DATA.replace(b"\t3\t", b"\t" + b"x" * 10_000 + b"\t")))) < 400


@pytest.mark.parametrize("name", ["u.data", "u.item"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (folder(tmp_path / "a") / name).unlink()
    assert f"{tmp_path / 'a'} has no {name}" in message(tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("ml-100k/readme", "")
    assert f"{tmp_path / 'b.zip'} has no tables" in message(tmp_path / "b.zip")


@pytest.mark.parametrize("keep", [0, 10, 100, -30])
def test_a_cut_zip_is_told(tmp_path: Path, keep: int) -> None:
    whole = archive(tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:keep])
    assert f"{tmp_path / 'cut.zip'} is not a complete zip archive" in message(tmp_path / "cut.zip")


def test_a_zip_with_a_changed_byte_is_told(tmp_path: Path) -> None:
    whole = bytearray(archive(tmp_path / "bad.zip").read_bytes())
    whole[whole.index(b"u.data") + 8] ^= 0xFF
    (tmp_path / "bad.zip").write_bytes(whole)
    assert "is not a complete zip archive" in message(tmp_path / "bad.zip")


def test_members_that_point_outside_are_read_and_never_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("../../u.data", DATA)
        file.writestr("../../u.item", ITEM)
    before = set(tmp_path.parent.rglob("u.*"))
    assert len(read(tmp_path / "a.zip").rows) == 3
    assert set(tmp_path.parent.rglob("u.*")) == before


def test_a_folder_in_place_of_a_file_cannot_be_read(tmp_path: Path) -> None:
    (folder(tmp_path / "a") / "u.data").unlink()
    (tmp_path / "a" / "u.data").mkdir()
    with pytest.raises(MalformedData, match=r"has no u\.data"):
        read(tmp_path / "a")
