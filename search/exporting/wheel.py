"""The wheel of this program: it goes with a model, so that the model loads where this program is absent."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from trainables.errors import UserError

DISTRIBUTION = "paretofuse"
#: What only searches need. The packages ``trainables`` and ``spaces`` import none of it.
FOR_SEARCHES = frozenset(
    {
        "jinja2",
        "matplotlib",
        "mlflow",
        "optuna",
        "plotly",
        "psutil",
        "pyyaml",
        "ray",
        "rich",
        "sqlalchemy",
        "typer",
    }
)
_PACKAGES = ("search", "spaces", "trainables")
_LEFT_OUT = ("trainables/data/openclipart/",)  # the included datasets
_WHEEL = "Wheel-Version: 1.0\nGenerator: paretofuse\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of all files, so that equal files give equal wheels


def write_wheel(folder: Path) -> Path:
    """Write the wheel of this program, as it runs here, into a folder.

    It is made of the packages that this process imports, be they installed, or a checkout. It holds the whole
    program except for the files of the included datasets. What it depends on is what models need; what only
    searches need is its extra ``search``. Equal programs give equal bytes.

    Args:
        folder: The folder; it is made if it is not there.

    Returns:
        The path of the wheel.

    Raises:
        UserError: If this program is not installed, so that its version is unknown.
    """
    name, content = _wheel()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def needed_by_models() -> list[str]:
    """Return the names of the distributions that a model needs beside this program, in the stated order.

    Raises:
        UserError: If this program is not installed.
    """
    requirements = _installed().requires or []
    return [
        name
        for requirement in requirements
        if ";" not in requirement and (name := _name(requirement)) not in FOR_SEARCHES
    ]


def _installed() -> Distribution:
    # A checkout holds an ``egg-info`` of an earlier build, which comes first where Python runs in it
    for found in distributions(name=DISTRIBUTION):
        if found.read_text("METADATA") is not None:
            return found
    raise UserError(f"{DISTRIBUTION} is not installed; install it by `pip install .`")


@functools.cache
def _wheel() -> tuple[str, bytes]:
    """Return the wheel's file name and content."""
    installed = _installed()
    info = f"{DISTRIBUTION}-{installed.version}.dist-info"
    files = {**_files(), f"{info}/METADATA": _metadata(installed.read_text("METADATA") or "").encode()}
    for name in ("entry_points.txt", "licenses/LICENSE"):
        if (text := installed.read_text(name)) is not None:
            files[f"{info}/{name}"] = text.encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return f"{DISTRIBUTION}-{installed.version}-py3-none-any.whl", buffer.getvalue()


def _files() -> dict[str, bytes]:
    """Return the packages' files by their name in the wheel."""
    return {
        name: path.read_bytes()
        for package in _PACKAGES
        for name, path in sorted(_paths(package))
        if not name.startswith(_LEFT_OUT)
    }


def _paths(package: str) -> Iterator[tuple[str, Path]]:
    spec = find_spec(package)
    for root in (spec and spec.submodule_search_locations) or ():
        for path in Path(root).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{package}/{path.relative_to(root).as_posix()}", path


def _metadata(text: str) -> str:
    """Return the metadata of a distribution, with what only searches need as the extra ``search``."""
    head, gap, description = text.partition("\n\n")
    return "\n".join([*_moved(head.splitlines()), "Provides-Extra: search"]) + gap + description


def _moved(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        field, _, requirement = line.partition(": ")
        if field == "Requires-Dist" and ";" not in requirement and _name(requirement) in FOR_SEARCHES:
            yield f'{line}; extra == "search"'
        else:
            yield line


def _name(requirement: str) -> str:
    """Return the normalized name of the distribution that a requirement is for."""
    found = re.match(r"[\w.-]*\w", requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
