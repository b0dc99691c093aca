"""Pickles are read as data: nothing that they name is run."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.data.readers.pickles import as_text, named, read_npy, read_pickle
from trainables.errors import UserError

ARRAYS = {
    "floats": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "other byte order": np.arange(3, dtype=">i4"),
    "not contiguous": np.arange(8)[::2],
    "bytes": np.array([[b"ab"], [b"c"]]),
    "texts": np.array(["x", "yé"]),
    "objects": np.array(["x", None, 1.5], object),
    "nothing": np.zeros((0, 3)),
    "one": np.array(True),
}


class Call:
    """Something whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def _read(folder: Path, content: bytes) -> Any:
    path = folder / "data.pkl"
    path.write_bytes(content)
    return read_pickle("toy", path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_are_what_they_were(tmp_path: Path, protocol: int) -> None:
    plain = {
        "list": [1, 2.5, None, True],
        "tuple": (b"a\xff", "é", b""),
        "set": {1, 2},
        "nested": {1: {2: 3}},
    }
    scalars = {"number": np.float32(2), "text": np.str_("q"), "truth": np.bool_(True)}
    ordered = OrderedDict(a=1)
    read = named(_read(tmp_path, pickle.dumps({**ARRAYS, **plain, **scalars, "ordered": ordered}, protocol)))
    assert read is not None
    for name, array in ARRAYS.items():
        assert isinstance(read[name], np.ndarray)
        assert read[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read[name], array)
    assert {name: read[name] for name in plain} == plain
    assert {name: read[name] for name in scalars} == scalars
    assert read["ordered"] == ordered


@pytest.mark.parametrize("home", ["numpy.core", "numpy._core"])
def test_both_spellings_of_numpys_modules_are_known(tmp_path: Path, home: str) -> None:
    content = pickle.dumps([np.arange(3), np.float64(1)], protocol=0)
    content = content.replace(b"numpy._core", home.encode())
    first, second = _read(tmp_path, content)
    assert (first.tolist(), second) == ([0, 1, 2], 1.0)


def test_what_python_2_has_written(tmp_path: Path) -> None:
    """There, texts are bytes and bytes are texts: U and c are the opcodes of short ones."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01K\x02\x85cnumpy\ndtype\n(U\x02i2K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x04\x01\x00\xff\xfftb"
    )
    words = b"caf\xc3\xa9s"
    read = named(_read(tmp_path, b"\x80\x02}(U\x05train" + array + b"U\x02idU\x06" + words + b"u."))
    assert read is not None
    assert read["train"].tolist() == [1, -1]
    assert as_text(read["id"]) == "cafés"
    assert as_text(b"caf\xe9") == "café"


@pytest.mark.parametrize(
    ("harmful", "what"),
    [
        (Call(os.system, "touch harmed"), "posix.system"),
        (Call(shutil.copy, "data.pkl", "harmed"), "shutil.copy"),
        (Call(eval, "open('harmed', 'w')"), "builtins.eval"),
        (Call(getattr, "a", "upper"), "builtins.getattr"),
        (Call(np.memmap, "harmed", "u1", "w+"), "numpy.memmap"),
        (Path("harmed"), "pathlib.PosixPath"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harmful: object, what: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        _read(tmp_path, pickle.dumps({"train": [harmful]}, protocol))
    named = what.replace("builtins", "__builtin__" if protocol < 3 else "builtins")
    allowed = "only arrays, numbers, texts and plain containers are read"
    assert str(error.value) == f"dataset 'toy': {tmp_path}/data.pkl holds {named}; {allowed}"
    assert not (tmp_path / "harmed").exists()


def _array(shape: tuple[int, ...], dtype: str, state: tuple[Any, ...], content: Any) -> bytes:
    """Return a pickle of an array with any parts."""

    class Kind:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.dtype, (dtype, False, True), state

    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            rebuild, arguments, _ = np.arange(1).__reduce__()
            return rebuild, arguments, (1, shape, Kind(), False, content)

    return pickle.dumps(Array())


_NUMBERS = (3, "<", None, None, None, -1, -1, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps(ARRAYS)[:-40],
        b"\x80\x04r\xff\xff\xff\xff.",  # a number of an object for which 64 GB would be taken
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",  # bytes that are not there
        _array((2,), "f8", _NUMBERS, b"x" * 8),
        _array((2**40,), "f8", _NUMBERS, b"x" * 8),
        _array((-1, -1), "f8", _NUMBERS, b"x" * 8),
        _array((2,), "O8", (3, "|", None, None, None, -1, -1, 63), b"x" * 16),
        _array((1,), "V8", (3, "|", None, None, None, 8, 1, 63), b"x" * 8),
        _array((1,), "U1", (3, "<", None, None, None, 4, 4, 0), b"\xff\xff\xff\x7f"),  # no character
        pickle.dumps(Call(np.dtype, "f8,O")),
        pickle.dumps(Call(np.ndarray, (2**40,))),
    ],
)
def test_damaged_ones_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError) as error:
        _read(tmp_path, content)
    assert str(error.value) == f"dataset 'toy': {tmp_path}/data.pkl is not a pickle that can be read"


def test_a_folder_is_no_pickle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read \\(Is a directory\\)"):
        read_pickle("toy", tmp_path)


@pytest.mark.parametrize("name", ARRAYS)
def test_npy_files(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", ARRAYS[name])
    np.testing.assert_array_equal(read_npy("toy", tmp_path / "a.npy"), ARRAYS[name])


def test_npy_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with pytest.raises(UserError, match=r"dataset 'toy': has no .*a\.npy"):
        read_npy("toy", path)
    np.save(path, np.array([Call(os.system, "touch harmed")], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"a.npy holds posix.system; only arrays"):
        read_npy("toy", path)
    for content in (b"\x93NUMPY", _npy(np.full(2, 0x7FFFFFFF, "i4").view("U1"))):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a.npy is not a \.npy file that can be read"):
            read_npy("toy", path)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
