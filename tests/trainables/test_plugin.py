"""A user's own file of methods: what goes wrong is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from spaces import SPACES
from tests.conftest import EXAMPLE_PLUGIN
from trainables.errors import UserError
from trainables.methods import METHODS
from trainables.plugin import Plugin


def test_the_example_is_short_and_registers_a_method_and_its_space() -> None:
    assert len(EXAMPLE_PLUGIN.read_text().splitlines()) < 80
    assert "gated_fusion" in METHODS
    assert SPACES["gated_fusion"].method == "gated_fusion"


def test_loading_twice_runs_once_and_needs_no_file(tmp_path) -> None:
    file = tmp_path / "counting.py"
    mark = tmp_path / "mark"
    file.write_text(f"from pathlib import Path\nwith Path({str(mark)!r}).open('a') as f:\n    f.write('x')\n")
    plugin = Plugin.read(file)
    file.unlink()
    plugin.load()
    plugin.load()
    assert mark.read_text() == "x"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = (", r"own.py, line 2: SyntaxError: '\(' was never closed"),
        ("import spaces\n1 / 0", r"own.py, line 2: ZeroDivisionError: division by zero"),
        ("import no_such_package", r"own.py, line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        (
            "from trainables.methods import FusionMethod, register_method\n"
            "@register_method('pmf', description='mine', source='me')\n"
            "class Mine(FusionMethod): ...",
            r"own.py: there is a method 'pmf' already",
        ),
        (
            "from spaces import Space, register_space\n"
            "register_space(Space('pmf', 'mine', lambda trial, context: {}, lambda context: []))",
            r"own.py: there is a space 'pmf' already; choose another name",
        ),
        (
            "from trainables.methods import DefaultSpace, FusionMethod, register_method\n"
            "@register_method('pmf_nas', description='mine', source='me', space=DefaultSpace('', {}, []))\n"
            "class Mine(FusionMethod): ...",
            r"own.py: there is a space 'pmf_nas' already; choose another name",
        ),
        (
            "from search.samplers import register_sampler\n"
            "@register_sampler('random', 'mine')\n"
            "def make(num_samples, seed): ...",
            r"own.py: there is a sampler 'random' already; choose another name",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(tmp_path, source, message) -> None:
    file = tmp_path / "own.py"
    file.write_text(source)
    plugin = Plugin.read(file)
    for _ in range(2):  # a file that failed is run again, not taken for loaded
        with pytest.raises(UserError, match=message) as caught:
            plugin.load()
        assert "\n" not in str(caught.value)
    assert "pmf_nas" not in METHODS


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--plugin .*nope.py: cannot be read \(FileNotFoundError"):
        Plugin.read(tmp_path / "nope.py")
