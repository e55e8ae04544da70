"""Find the files with tables that a path, a pattern, a folder or an archive names."""

from __future__ import annotations

import fnmatch
import glob
import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

SEPARATORS = {".tsv": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
TEXT = (".csv", *SEPARATORS, ".txt", ".dat", ".data")
JSON = (".json", ".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
PACKED = (".gz", ".zst")
SUFFIXES = (*PARQUET, *TEXT, *JSON)
TYPED = (".inter", ".item", ".user")
"""Suffixes of RecBole's files, whose headings also have the type of each column: `user_id:token`."""

HEAD_BYTES = 2**20
_ZIP = b"PK"


def kind_of(path: Path) -> str:
    """Return the suffix that tells the format of a file, in lower case and without `.gz` or `.zst`."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in PACKED]
    return suffixes[-1] if suffixes else ""


def is_table(path: Path) -> bool:
    """Tell whether a path is a file of a known format, an archive or a folder with such files."""
    if path.is_dir() or is_archive(path):
        return any(True for _ in members(path))
    return kind_of(path) in SUFFIXES


def is_archive(path: Path) -> bool:
    """Tell whether a path is a zip archive, also a damaged one."""
    if not path.is_file() or kind_of(path) in SUFFIXES:
        return False
    if path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def members(path: Path) -> Iterator[str]:
    """Yield the tables in a folder or an archive, sorted, without those whose name begins with `.` or `_`.

    Raises:
        SourceUnavailable: the archive cannot be read.
    """
    if path.is_dir():
        found = [each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()]
    else:
        from mtsearch.tables.refusals import explained

        with explained(path), zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if not name.endswith("/")]
    for name in sorted(found):
        if not any(part[0] in "._" and part != ".." for part in Path(name).parts) and kind_of(Path(name)) in SUFFIXES:
            yield name


def parts(path: Path) -> list[Path]:
    """Return a file itself, or the tables in a folder or an archive."""
    return [path / name for name in members(path)] if path.is_dir() or is_archive(path) else [path]


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into; None for a path of its own."""
    return next((each for each in path.parents if is_archive(each)), None)


def expand(source: str) -> list[Path]:
    """Return the files that a path, a pattern with `*`, or a path into an archive (`a.zip/b.csv`) names, sorted."""
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    if archive := archive_of(path):
        inside = path.relative_to(archive).as_posix()
        return [archive / name for name in members(archive) if fnmatch.fnmatch(name, inside)]
    return [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - of any root


def read_head(file: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    suffix = file.suffix.lower()
    if suffix == ".gz":
        with gzip.open(file) as packed:
            return packed.read(HEAD_BYTES)
    if suffix == ".zst":
        import pyarrow as pa

        with pa.input_stream(str(file), compression="zstd") as stream:
            found: bytes = stream.read(HEAD_BYTES)
            return found
    with file.open("rb") as plain:
        return plain.read(HEAD_BYTES)
