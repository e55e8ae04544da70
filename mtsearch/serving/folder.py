"""What a model folder says of itself, read before TensorFlow is."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mtsearch.errors import ModelError

FORMAT = 1
SAVED_MODEL = "1"
CARD = "model_card.md"
FACTS = "model.json"

_TRAIN = "give a folder that `mtsearch retrain` wrote"
_AGAIN = "make the folder anew with `mtsearch retrain`"


class Facts(BaseModel):
    """`model.json`: how large the model is, and who made it.

    Attributes:
        users, items: that were trained on.
        catalogue: C, items that are recommended.
        rating_range: lowest and highest rating that is predicted.
        created: ISO time.
        mtsearch: version that made it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    users: int = Field(ge=0)
    items: int = Field(ge=0)
    catalogue: int = Field(ge=1)
    rating_range: tuple[float, float]
    created: str = ""
    mtsearch: str = ""

    @field_validator("rating_range", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value


def read_facts(folder: Path) -> Facts:
    """The facts of a model folder.

    Raises:
        ModelError: there is none, it is damaged, or its format is newer than this version knows.
    """
    path = folder / FACTS
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise _not_a_model(folder) from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is damaged: not UTF-8", _AGAIN) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{str(path)!r} cannot be read ({reason})", "check the path and its rights") from None
    return _parsed(path, text)


def _not_a_model(folder: Path) -> ModelError:
    if not folder.exists():
        return ModelError(f"no folder {folder}", _TRAIN)
    if not folder.is_dir():
        return ModelError(f"{folder} is a file, not a model folder", _TRAIN)
    return ModelError(f"{folder} is not a model folder: it has no {FACTS}", _TRAIN)


def _parsed(path: Path, text: str) -> Facts:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is damaged: not JSON", _AGAIN) from None
    number = values.get("format") if isinstance(values, dict) else None
    if type(number) is not int or number < 1:
        raise ModelError(f"{path} is damaged: it has no format number", _AGAIN)
    if number > FORMAT:
        maker = f"mtsearch {values['mtsearch']}" if isinstance(values.get("mtsearch"), str) else "a newer mtsearch"
        raise ModelError(
            f"{path.parent} was made by a newer mtsearch ({maker}, format {number}; this version reads {FORMAT})",
            "update with `pip install -U mtsearch`",
        )
    try:
        return Facts.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path} is damaged: {place}: {first['msg'].lower()}", _AGAIN) from None
