"""What is declared, what the source distribution holds, and the wheel alone in a new environment."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("search", "spaces", "trainables")
EXTRAS = PROJECT["optional-dependencies"]
DEVELOPERS = EXTRAS["dev"]
#: What reads some formats of datasets.
OPTIONAL = [each for extra in EXTRAS if extra != "dev" for each in EXTRAS[extra]]


def _imported(folders: Iterable[str]) -> dict[str, str]:
    """Packages of others that are imported, each with a file that does."""
    found = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            found |= {name.split(".")[0]: str(path.relative_to(ROOT)) for name in names}
    ours = {*PACKAGES, "tests", *sys.stdlib_module_names}
    return {name: path for name, path in found.items() if name not in ours}


def _names(requirements: Iterable[str]) -> set[str]:
    return {_normal(re.split(r"[\[<>=~;! ]", requirement)[0]) for requirement in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("folders", "declared"),
    [
        (PACKAGES, [*PROJECT["dependencies"], *OPTIONAL]),
        (("tests",), [*PROJECT["dependencies"], *OPTIONAL, *DEVELOPERS]),
    ],
    ids=["packages", "tests"],
)
def test_what_is_imported_is_declared(folders, declared) -> None:
    distributions = packages_distributions()
    undeclared = {
        name: path
        for name, path in _imported(folders).items()
        if not {_normal(d) for d in distributions.get(name, [name])} & _names(declared)
    }
    assert not undeclared


def test_what_is_optional_is_imported_where_it_is_used() -> None:
    code = "import search, trainables.data, sys; print(*{'datasets', 'h5py'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_declared_is_pinned_as_it_was_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {_normal(line.split("==")[0]) for line in lines if "==" in line}
    assert _names([*PROJECT["dependencies"], *OPTIONAL, *DEVELOPERS]) <= pins


def _build(kind: str, target: Path) -> Path:
    """Build a distribution from a copy of the sources, as they lie in this checkout."""
    pytest.importorskip("setuptools")
    sources = target / "sources"
    if not sources.exists():
        kept = shutil.ignore_patterns(
            ".*_cache", ".venv*", ".git", "__pycache__", "*.egg-info", "build", "runs", "mlruns*"
        )
        shutil.copytree(ROOT, sources, ignore=kept, symlinks=True)
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=sources, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = target.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return path


@pytest.mark.slow
def test_the_source_distribution_holds_what_builds_tests_and_explains_it(tmp_path) -> None:
    with tarfile.open(_build("sdist", tmp_path)) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    folders = (*PACKAGES, "tests", "docs", "examples", "scripts", "benchmarks")
    wanted = {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files = ("Makefile", "README.md", "CONTRIBUTING.md", "LICENSE", "pyproject.toml", "search.py")
    wanted |= {*files, "constraints.txt", "bundled-encoders.txt", ".ci/run"}
    wanted |= {"cluster.yaml", "cluster-local.yaml"}
    assert not wanted - held


@pytest.mark.full
def test_a_wheel_alone_searches_from_any_folder(tmp_path, tiny_encoders) -> None:
    """What it depends on is taken from here; the packages themselves can come from the wheel only."""
    wheel = _build("wheel", tmp_path)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["PARETOFUSE_CACHE"] = str(tmp_path / "cache")
    new = tmp_path / "new"
    venv.create(new, with_pip=True)
    python = new / "bin" / "python"
    pip = [
        str(python),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, str(wheel)], env=clean, check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(new)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    where = "import search, spaces, trainables as t; print(search.__file__, spaces.__file__, t.__file__)"
    here = subprocess.run(
        [str(python), "-c", where], cwd=elsewhere, env=clean, capture_output=True, text=True, check=True
    )
    assert all(Path(path).is_relative_to(new) for path in here.stdout.split())

    encoders = [f"--text-encoder={tiny_encoders['bert']}", f"--image-encoder={tiny_encoders['vit']}"]
    sizes = ["--num-samples=1", "--epochs=1", "--text-length=8", "--image-size=32", "--name=first"]
    command = [str(new / "bin" / "paretofuse"), "--space=linear", *encoders, *sizes, "--json"]
    done = subprocess.run(command, cwd=elsewhere, env=clean, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"] == 1
    assert (elsewhere / "runs" / "first" / "result.json").exists()
