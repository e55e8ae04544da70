"""A study file to start from: every table and every option, with its meaning, its range and its default."""

from importlib.resources import files
from pathlib import Path

import tomli_w


def template(name: str, file: str, schema: Path | None = None) -> str:
    """Return the text of `template.toml` for one study.

    Args:
        name: of the study.
        file: where it will be, as it may be typed.
        schema: file of the JSON Schema, for editors.
    """
    text = files("mtsearch.study_file").joinpath("template.toml").read_text(encoding="utf-8")
    named = text.replace("{file}", file).replace('name = "{name}"', tomli_w.dumps({"name": name}).rstrip())
    return f"#:schema {schema.as_uri()}\n{named}" if schema else named
