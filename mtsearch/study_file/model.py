"""`[model]` of a study file: a model of the user's own, named by the function that makes it; found, not yet run."""

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from pydantic import Field, field_validator

from mtsearch.errors import DefinitionError
from mtsearch.study_file.mistakes import shown
from mtsearch.study_file.parameters import Section
from mtsearch.study_file.paths import shipped_folder

_FACTORY = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"


class ModelSection(Section):
    """A model of your own in place of the joint model."""

    factory: str = Field(
        json_schema_extra={"pattern": _FACTORY},
        description="package.module:function; the function gets (TrialConfig, Split) and returns a tfrs.models.Model.",
    )
    folder: str | None = Field(
        default=None, description="Folder in which the module is looked for first; the study file's if it is left out."
    )

    @field_validator("factory")
    @classmethod
    def _named(cls, factory: str) -> str:
        if not re.search(_FACTORY, factory):
            raise ValueError(f"{shown(factory)} is not written like package.module:function")
        return factory

    @property
    def module(self) -> str:
        """Dotted name of the module."""
        return self.factory.partition(":")[0]

    @property
    def function(self) -> str:
        """Name of the function in it."""
        return self.factory.partition(":")[2]


@dataclass(frozen=True)
class Source:
    """Where a module is, and what it says.

    Attributes:
        root: the entry of the path under which it was found.
        file: of the module.
        fingerprint: SHA-256 (hex) of its text, and of every .py of its package where it is in one.
    """

    root: Path
    file: Path
    fingerprint: str


def find_source(model: ModelSection) -> Source:
    """Find the factory's module: in `folder`, the current folder, where Python looks, then beside the shipped studies.

    The folder of another machine need not be here, so that a study can go on wherever its module is found.

    Raises:
        DefinitionError: nowhere, or not as Python text.
    """
    invalidate_caches()
    here = Path.cwd()
    places = [here / (model.folder or ""), here, *(here / entry for entry in sys.path), shipped_folder()]
    for place in dict.fromkeys(places):
        specs = _specs(model.module, str(place))
        if specs and specs[-1].origin is not None:
            file = Path(specs[-1].origin)
            if file.suffix != ".py":
                raise DefinitionError(f"model.factory: {file} is no Python text", "name a module that is a .py file")
            return Source(place, file, _fingerprint(_texts(specs, file)))
    looked = f"in {model.folder or here}" + (", the current folder" if model.folder else "")
    raise DefinitionError(
        f"model.factory: no module {model.module!r} {looked} or where Python looks",
        "write model.factory as package.module:function, its module beside the study file or in model.folder",
    )


def _specs(module: str, place: str) -> list[ModuleSpec]:
    """Of each package on the way and of the module; empty where it is not there. Runs none of them."""
    specs: list[ModuleSpec] = []
    locations: Sequence[str] | None = [place]
    for part in module.split("."):
        # By its last name: a folder without __init__.py is asked for its parent otherwise, which is not imported.
        spec = PathFinder.find_spec(part, locations) if locations else None
        if spec is None:
            return []
        specs.append(spec)
        locations = list(spec.submodule_search_locations or ())
    return specs


def _texts(specs: Sequence[ModuleSpec], file: Path) -> Iterator[tuple[str, bytes]]:
    """Name and text of what the fingerprint is of."""
    package = next((spec.origin for spec in specs if spec.submodule_search_locations and spec.origin), None)
    if package is None:
        yield "", file.read_bytes()
        return
    folder = Path(package).parent
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def _fingerprint(texts: Iterator[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256(b"mtsearch model 1\n")
    for name, text in texts:
        plain = text.replace(b"\r\n", b"\n")  # as Git may hand it out on another system
        digest.update(f"{name}\n{len(plain)}\n".encode() + plain)
    return digest.hexdigest()
