"""A study file to start from: every table and every option, with its meaning, its range and its default."""

from importlib.resources import files

import tomli_w

from mtsearch.study_file.schema import shipped_schema


def template(name: str, file: str) -> str:
    """Return the text of `template.toml` for one study.

    Args:
        name: of the study.
        file: where it will be, as it may be typed.
    """
    text = files("mtsearch.study_file").joinpath("template.toml").read_text(encoding="utf-8")
    named = text.replace("{file}", file).replace('name = "{name}"', tomli_w.dumps({"name": name}).rstrip())
    return f"#:schema {shipped_schema().as_uri()}\n{named}"
