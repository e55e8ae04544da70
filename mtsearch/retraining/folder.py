"""A model folder: written aside, and put in its place when it is complete."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mtsearch.errors import MachineError, ModelError
from mtsearch.files import obstacle
from mtsearch.retraining.card import model_card
from mtsearch.retraining.result import Retrained, curve_json, metrics_json
from mtsearch.serving.folder import CARD, FACTS, FORMAT, SAVED_MODEL

EXPORT = "export.toml"
METRICS = "metrics.json"
CURVE = "curve.json"

_OURS = {SAVED_MODEL, EXPORT, METRICS, CURVE, FACTS, CARD}


def writable_place(folder: Path) -> Path:
    """The absolute path of a folder that can be written: nothing is there, or an earlier model and nothing else.

    Raises:
        ModelError: something else is there.
        MachineError: a folder cannot be made there.
    """
    target = folder.resolve()  # of a link what it leads to
    try:
        _require_replaceable(target)
        parent = obstacle(target)
    except OSError as error:
        raise _unwritable(target, error.strerror or str(error)) from None
    if parent is not None:
        raise _unwritable(target, f"{parent} is no folder that can be written")
    return target


def write_folder(result: Retrained, save: Callable[[Path], None]) -> None:
    """Write `result.folder`, whole or not at all.

    Args:
        result: what to write.
        save: writes the SavedModel.

    Raises:
        ModelError: something that is no model folder has come there meanwhile.
        MachineError: it cannot be written.
    """
    target = result.folder
    aside = target.with_name(f".{target.name}.partial-{os.getpid()}")
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        aside.mkdir(parents=True)
        _fill(aside, result, save)
        _require_replaceable(target)
        _put(aside, target)
    except OSError as error:
        raise _unwritable(target, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in missing:  # empty where nothing was put into them
            with suppress(OSError):
                parent.rmdir()


def _fill(folder: Path, result: Retrained, save: Callable[[Path], None]) -> None:
    save(folder / SAVED_MODEL)
    result.export.save(folder / EXPORT)
    _write_json(folder / METRICS, metrics_json(result))
    _write_json(folder / CURVE, curve_json(result))
    _write_json(folder / FACTS, _facts(result))
    (folder / CARD).write_text(model_card(result), encoding="utf-8")


def _put(aside: Path, target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        aside.replace(target)
        return
    before = target.with_name(f".{target.name}.replaced-{os.getpid()}")
    target.rename(before)
    try:
        aside.rename(target)
    except BaseException:
        before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _require_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ModelError(f"{target} is a file", "name a folder")
    found = {path.name for path in target.iterdir()}
    if found and FACTS not in found:
        raise ModelError(f"{target} is there already and is no model folder", "name another folder")
    if strange := sorted(found - _OURS):
        problem = f"{target} holds {strange[0]!r}, which would be lost with the earlier model"
        raise ModelError(problem, "move it away or name another folder")


def _unwritable(target: Path, reason: str) -> MachineError:
    return MachineError(f"cannot write {target}: {reason}", "name a folder that can be written")


def _facts(result: Retrained) -> dict[str, Any]:
    """What a reader needs before it loads TensorFlow; see `mtsearch.serving.folder.Facts`."""
    return {
        "format": FORMAT,
        "mtsearch": version("mtsearch"),
        "users": result.users,
        "items": result.items,
        "catalogue": result.catalogue,
        "rating_range": list(result.rating_range),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": result.export.provenance.data_fingerprint,
        "threads": result.threads,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
