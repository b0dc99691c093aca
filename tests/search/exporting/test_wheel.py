"""The wheel of this program that goes with a model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from search.exporting import wheel
from search.exporting.wheel import FOR_SEARCHES, needed_by_models, write_wheel
from tests.test_architecture import imports

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return write_wheel(tmp_path_factory.mktemp("wheel") / "code")


def test_it_holds_the_program_without_the_datasets(built) -> None:
    with zipfile.ZipFile(built) as archive:
        held = set(archive.namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in ("search", "spaces", "trainables")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "openclipart" not in path.parts
    }
    assert ours <= held
    assert {name.split("/", 1)[1] for name in held - ours} == {
        "METADATA",
        "WHEEL",
        "RECORD",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_equal_programs_give_equal_bytes(built, tmp_path) -> None:
    first = built.read_bytes()
    wheel._wheel.cache_clear()
    assert write_wheel(tmp_path).read_bytes() == first


def test_what_a_build_has_left_in_a_checkout_is_no_installation(built, tmp_path) -> None:
    leftover = tmp_path / "checkout" / "paretofuse.egg-info"
    leftover.mkdir(parents=True)
    (leftover / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: paretofuse\nVersion: 0.1.0\n")
    code = "import sys, pathlib, search.exporting.wheel as w; w.write_wheel(pathlib.Path(sys.argv[1]))"
    path = os.pathsep.join([str(leftover.parent), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    assert (tmp_path / built.name).read_bytes() == built.read_bytes()


def test_pip_installs_it_and_it_is_what_is_imported_there(built, tmp_path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
        "--no-index",
        "--no-compile",
    ]
    subprocess.run([*pip, "--no-deps", "--target", str(tmp_path / "site"), str(built)], check=True)
    code = (
        "import search, trainables; from importlib.metadata import distribution;"
        "print(search.__file__, trainables.__file__, distribution('paretofuse').locate_file(''))"
    )
    clean = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert all(Path(path).is_relative_to(tmp_path / "site") for path in there.stdout.split())


def test_what_only_searches_need_is_an_extra(built) -> None:
    with zipfile.ZipFile(built) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        stated = archive.read(name).decode().partition("\n\n")[0].splitlines()
    required = [line.partition(": ")[2] for line in stated if line.startswith("Requires-Dist: ")]
    plain = {re.split(r"[\[<>=~!;]", line)[0] for line in required if ";" not in line}
    searches = {re.split(r"[\[<>=~!;]", line)[0] for line in required if 'extra == "search"' in line}
    assert plain == set(needed_by_models())
    assert {"torch", "transformers", "safetensors", "pillow"} <= plain
    assert searches == FOR_SEARCHES
    assert "Provides-Extra: search" in stated


@pytest.mark.parametrize("package", ["trainables", "spaces"])
def test_what_models_import_is_not_what_only_searches_need(package) -> None:
    imported = {name.split(".")[0] for path in (ROOT / package).rglob("*.py") for name in imports(path)}
    assert not imported & (FOR_SEARCHES | {"yaml"})
