"""`Export`, the TOML file of one configuration with its data, its split and its provenance."""

import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

import tomli_w
from pydantic import Field, ValidationError

from mtsearch.errors import ExportError
from mtsearch.files import write_atomically
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import MOST_OBJECTIVES
from mtsearch.study_file.sections import DataSection, ModelSection, SplitSection
from mtsearch.study_file.space import Scalar, Section
from mtsearch.study_file.tasks import TaskName, TaskSection
from mtsearch.study_file.validation import validation_messages
from mtsearch.text import quote, shorten_middle

FORMAT: Final = 1
"""Version of the file's format; files of a higher version are refused."""

_WIDTH = 120
_HEADING = (
    "A configuration that mtsearch exported. [config] may be edited: keys that are left out have their defaults.\n"
    "[provenance] tells where the configuration comes from and which metrics it reached before any edit."
)
_TABLES = {
    "config": "The model and its training.",
    "model": "The custom model and the place of its module.",
    "data": "The ratings.",
    "tasks": "What is learnt, and from which rows.",
    "split": "The rows that are held out: shares of all rows (test) and of the rest (validation).",
    "provenance": "The trial, and everything that its metrics depend on.",
}


class Provenance(Section):
    """The table [provenance]: the trial that a configuration comes from, its metrics and its environment."""

    study: str = Field(description="Name of the study.")
    trial: int = Field(ge=0, description="Number of the trial in the study, from 0 on.")
    pick: str = Field(description="Rule by which the trial was chosen.")
    objectives: tuple[str, ...] = Field(
        strict=False, min_length=1, max_length=MOST_OBJECTIVES, description="The metrics of the study, one to four."
    )
    best_epoch: int = Field(ge=1, description="Epoch whose metrics these are, from 1 on.")
    repeats: int = Field(default=1, ge=1, description="Seeds over which the metrics are means.")
    data_fingerprint: str = Field(description="SHA-256 of the ratings.")
    split_fingerprint: str = Field(description="SHA-256 of the rows that are held out.")
    source_fingerprint: str | None = Field(default=None, description="SHA-256 of the source of a custom model.")
    study_seed: int = Field(ge=0, description="Seed of the search.")
    threads: int | None = Field(
        default=None, ge=1, description="Threads that trained it; other numbers of threads give other last bits."
    )
    device: str | None = Field(default=None, description="Device that trained it.")
    python: str | None = Field(default=None, description="Version of Python that trained it.")
    exported: datetime = Field(description="Time at which this file was made.")
    exported_by: str = Field(description="Version of mtsearch that made this file.")
    metrics: dict[str, float] = Field(description="Validation metrics of the trial.")
    params: dict[str, Scalar] = Field(
        default_factory=dict, description="Values that the search set; the rest was fixed or a default."
    )
    packages: dict[str, str] = Field(default_factory=dict, description="Versions of the packages that trained it.")


class Export(Section):
    """An exported configuration that can be trained again, as in `Export.load("best.toml").config`."""

    format: Literal[1] = Field(default=FORMAT, description="Number of the file's format.")
    config: TrialConfig = Field(description="The model and its training, every field resolved.")
    model: ModelSection | None = Field(default=None, description="A custom model; None for the joint model.")
    data: DataSection = Field(description="The ratings, as in the study's definition.")
    split: SplitSection = Field(description="The rows that are held out, as in the study's definition.")
    tasks: dict[TaskName, TaskSection] = Field(
        default_factory=dict, description="What is learnt, and from which rows, as in the study's definition."
    )
    provenance: Provenance = Field(description="The trial, and everything that its metrics depend on.")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an exported file, as it was written or as it was edited since.

        Raises:
            ExportError: it cannot be read, is no export, or is one of a newer format; one line with file and key.
        """
        path = Path(path)
        raw = _read(path)
        _require_known_format(path, raw)
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            lines = validation_messages(error, raw, cls)
            first, *others = sorted(lines, key=lambda line: not line.startswith("unknown key"))  # misspelt, not missing
            more = f" (and {len(others)} more)" if others else ""
            raise ExportError(f"{path}: {first}{more}") from None

    def to_toml(self) -> str:
        """Return the text of the TOML file; floating-point numbers keep all their digits."""
        values = self.model_dump(exclude_none=True)
        lines = [*_format_comment(_HEADING), tomli_w.dumps({"format": values.pop("format")})]
        for name, table in values.items():
            if name == "tasks":
                lines += self._format_tasks()
                continue
            fields = type(getattr(self, name)).model_fields
            described = {key: (field.description or "").removesuffix(".") for key, field in fields.items()}
            lines += [*_format_comment(_TABLES[name]), f"[{name}]", *_format_table(name, table, described), ""]
        return "\n".join(lines).rstrip() + "\n"

    def _format_tasks(self) -> Iterator[str]:
        if self.tasks:
            yield from _format_comment(_TABLES["tasks"])
        described = {key: field.description or "" for key, field in TaskSection.model_fields.items()}
        for name, task in self.tasks.items():
            yield f"[tasks.{name}]"
            yield from _format_table(f"tasks.{name}", task.model_dump(exclude_none=True), described)
            yield ""

    def save(self, path: str | Path) -> Path:
        """Write the export as a whole or not at all; its folder is made, and an earlier export is replaced.

        Returns:
            The absolute path.

        Raises:
            ExportError: the path has a file or folder that is not an export.
            MachineError: the file cannot be written.
        """
        target = Path(path).resolve()  # a link stays a link: the file that it leads to is replaced
        _require_replaceable(target)
        write_atomically(target, self.to_toml().encode())
        return target


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ExportError(f"{path}: not a file", "name a file that `mtsearch export` wrote")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ExportError(f"{path}: no such file", "`mtsearch export -o FILE` writes one") from None
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ExportError(f"{path}: not UTF-8 text", "export it again") from None
    except tomllib.TOMLDecodeError as error:
        raise ExportError(
            f"{path}: not TOML: {shorten_middle(str(error))}", "correct that line or export it again"
        ) from None
    except (ValueError, RecursionError):  # an integer of thousands of digits, or very deep nesting
        raise ExportError(f"{path}: cannot be read", "export it again") from None


def _require_known_format(path: Path, raw: Mapping[str, Any]) -> None:
    stored = raw.get("format")
    if stored is None:
        raise ExportError(
            f"{path}: format is missing, so it is not an export of mtsearch", "`mtsearch export` writes one"
        )
    if not isinstance(stored, int) or isinstance(stored, bool) or stored < 1:
        raise ExportError(f"{path}: format = {quote(stored)} is not a valid format", f"write format = {FORMAT}")
    if stored > FORMAT:
        raise ExportError(f"{path}: format {quote(stored)} was made by a newer mtsearch", "upgrade mtsearch")


def _require_replaceable(target: Path) -> None:
    """Refuse a path with a file or folder that is not an export; edited exports and newer formats may be replaced."""
    if target.is_dir():
        raise ExportError(f"{target} is a folder", "name a file in it")
    if not target.exists():
        return
    try:
        is_export = {"format", "config", "provenance"} <= _read(target).keys()
    except ExportError:
        is_export = False
    if not is_export:
        raise ExportError(f"{target} already exists and is not an export of mtsearch", "name another file")


def _format_table(name: str, table: Mapping[str, Any], described: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a table, each with a comment on its meaning; inner tables come after the plain values."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    for key, value in table.items():
        if key not in inner:
            yield _append_comment(_format_line(key, value), described.get(key, ""))
    for key, value in inner.items():
        yield ""
        yield _append_comment(f"[{name}.{key}]", described.get(key, ""))
        yield from _format_table(f"{name}.{key}", value, {})


def _format_line(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        # tomli_w writes one item per line; here the list stays on one line.
        return f"{key} = [{', '.join(_format_line('x', item).removeprefix('x = ') for item in value)}]"
    return tomli_w.dumps({key: value}).rstrip("\n")


def _append_comment(line: str, text: str) -> str:
    """Return a line with a comment behind it, cut to the width of the file."""
    room = _WIDTH - len(line) - len("  # ")
    brief = textwrap.shorten(text, room, placeholder=" ...") if room > len(" ...") else ""
    return f"{line}  # {brief}" if brief.removesuffix("...").strip() else line


def _format_comment(text: str) -> list[str]:
    return [f"# {line}" for line in text.splitlines()]
