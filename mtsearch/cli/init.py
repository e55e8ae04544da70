"""`mtsearch init`."""

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("study.toml"))
def command(file: Path) -> None:
    """Write a commented definition to start from to FILE, by default study.toml; an existing file is left alone."""
    import tomllib

    from mtsearch.definition import StudyDefinition
    from mtsearch.errors import DefinitionError, MachineError
    from mtsearch.study_file.schema import schema_file
    from mtsearch.study_file.template import template

    _require_name(file)
    typed = shlex.quote(str(file))
    text = template(file.stem, typed, schema_file())
    StudyDefinition.from_mapping(tomllib.loads(text), origin=str(file))
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise DefinitionError(f"{file} is there already", "name another file, or remove it first") from None
    except (OSError, ValueError) as error:
        raise MachineError(
            f"{file} cannot be written: {error}", "name a file in a folder that you may write to"
        ) from None
    click.echo(f"wrote {file}; next: mtsearch check {typed}", err=True)


def _require_name(file: Path) -> None:
    """The study is called as the file is, without its suffix: not every file will do."""
    from pydantic import ValidationError

    from mtsearch.definition import StudySection
    from mtsearch.errors import DefinitionError
    from mtsearch.study_file.mistakes import config_error, short, shown
    from mtsearch.study_file.reading import shipped

    if str(file) in shipped():
        problem = f"{file} is the name of a shipped definition, which `mtsearch run {file}` reads"
        raise DefinitionError(problem, f"name the file {file}.toml")
    if not file.name:
        raise DefinitionError(f"{short(str(file))} is a folder", "name a file in it, such as study.toml")
    try:
        StudySection(name=file.stem)
    except ValidationError as error:
        problem = f"{shown(str(file))} names no study: {config_error(error)}"
        raise DefinitionError(problem, "name another file") from None
