"""Virtual environments that hold some of the packages that are installed here, and need no network."""

import re
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def make_environment(folder: Path, package: str) -> Path:
    """Make an environment with a package and all that it requires, linked, and return the path of its Python."""
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    for found in _closure(package, {}).values():
        for file in found.files or ():
            _link(packages, file.parts, Path(str(found.locate_file(""))))
    return folder / "bin" / Path(sys.executable).name


def _closure(package: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Add an installed package and those that it requires to `found`, by their names."""
    name = re.sub(r"[-_.]+", "-", package).lower()
    if name not in found:
        found[name] = distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                _closure(requirement.name, found)
    return found


def _link(packages: Path, parts: tuple[str, ...], source: Path) -> None:
    """Link the file, or the package that it belongs to; packages of one namespace have several distributions."""
    if ".." in parts:  # a script or a header
        return
    for depth in range(1, len(parts) + 1):
        target, original = packages.joinpath(*parts[:depth]), source.joinpath(*parts[:depth])
        if target.is_symlink():
            return
        if original.is_file() or (original / "__init__.py").exists() or parts[0].endswith(".dist-info"):
            target.symlink_to(original)
            return
        target.mkdir(exist_ok=True)
