"""The start of the program: what it imports, and what it shows meanwhile."""

from __future__ import annotations

import gc
import json
import os
import pty
import subprocess
import sys

from search.cli.waiting import waiting

#: What nobody but a search needs.
OF_SEARCHES = {"ray", "mlflow", "optuna", "sklearn", "pandas", "datasets"}
#: What draws pictures, or belongs to one method.
OF_FEW = {"matplotlib", "peft"}
#: What the encoders' models import.
OF_MODELS = {"torch._dynamo", "accelerate", "scipy", "sympy"}

_PROGRAM = """
import sys
from search.cli import main
sys.argv = ["search.py", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def imported_by(*arguments: str, code: int = 0) -> set[str]:
    """Return the modules that a command has imported when it ends with an exit code."""
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == code, ran.stderr
    return set(ran.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    heavy = {*OF_SEARCHES, *OF_FEW, *OF_MODELS, "torch", "transformers", "numpy", "pyarrow"}
    assert not heavy & imported_by("--help")


def test_methods_are_listed_without_transformers_and_once_more_without_torch(workplace) -> None:
    assert not {*OF_SEARCHES, *OF_FEW, *OF_MODELS, "transformers"} & imported_by("methods")
    assert not {*OF_SEARCHES, *OF_FEW, *OF_MODELS, "transformers", "torch"} & imported_by("methods", "pmf")


def test_a_search_that_cannot_begin_imports_nothing_of_samplers_and_models(workplace) -> None:
    modules = imported_by("--resume", "nothing", code=2)
    assert modules >= {"ray", "search.api"}
    assert not {*OF_FEW, "scipy.stats", "sklearn", "transformers", "torch._dynamo"} & modules


def test_spaces_are_listed_without_the_encoders_models() -> None:
    encoders = ("--text-encoder", "arch:bert-base", "--image-encoder", "arch:vit-base")
    assert not {*OF_SEARCHES, *OF_FEW, *OF_MODELS} & imported_by("spaces", *encoders)


def test_a_prediction_imports_nothing_of_a_search_and_a_known_one_no_models(workplace) -> None:
    command = ("predict", "--encoder", "image=arch:vit-base", "--method", "image_only")
    made = imported_by(*command)
    assert "torch._dynamo" in made
    assert not {*OF_SEARCHES, *OF_FEW} & made
    assert not {*OF_SEARCHES, *OF_FEW, *OF_MODELS} & imported_by(*command)


def shown_in_a_terminal(*arguments: str) -> tuple[str, str]:
    """Return what a command prints on standard output, and on standard error if that is a terminal."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "search", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=its, text=True, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(its)
        shown = b""
        while part := _read(ours):
            shown += part
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    return out, shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the end, on Linux
        return b""


def test_a_terminal_shows_what_it_waits_for(workplace) -> None:
    out, shown = shown_in_a_terminal("encoders", "--json")
    assert "loading PyTorch" in shown
    assert json.loads(out)


def test_without_a_terminal_nothing_is_said(capfd) -> None:
    with waiting("loading"):
        pass
    assert capfd.readouterr() == ("", "")


def test_nothing_is_collected_while_libraries_are_imported() -> None:
    with waiting("loading"):
        assert not gc.isenabled()
    assert gc.isenabled()
