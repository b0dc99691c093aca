"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

    python scripts/lowest_versions.py > lowest.txt
    pip install -c lowest.txt -e ".[dev,hf,h5]"

Only packages with a lower bound in pyproject.toml are pinned. pip chooses the versions of all others.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

#: A requirement's name, without extras, and its lower bound.
_BOUNDED = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?[^;]*?>=\s*([0-9][^,;\s]*)")


def lowest(requirements: Iterable[str]) -> list[str]:
    """Return requirements pinned to their lower bounds; requirements without one are left out.

    >>> lowest(["ray[tune,train]>=2.60,<3", "typer>=0.16", "types-PyYAML"])
    ['ray==2.60', 'typer==0.16']
    """
    found = (_BOUNDED.match(requirement) for requirement in requirements)
    return [f"{match[1]}=={match[2]}" for match in found if match]


def main() -> None:
    """Print constraints for the packages that are needed to run and test the program."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    optional = [each for extra in project["optional-dependencies"].values() for each in extra]
    for pin in lowest([*project["dependencies"], *optional]):
        print(pin)


if __name__ == "__main__":
    main()
