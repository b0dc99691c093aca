"""Pickles of arrays and plain containers, read without running anything that they name.

A pickle may name any function of any module and call it. Here names stand for functions of this file, which
make arrays out of checked sizes and bytes; NumPy's own ones take types and flags from the pickle unchecked.
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainables.errors import UserError

#: Types of numbers, texts and objects, as NumPy writes them.
_TYPE = re.compile(r"[biufcSUO?][0-9]*")


def read_pickle(name: str, path: Path) -> Any:
    """Return what a pickle holds: arrays, numbers, texts, and containers of them.

    Texts that Python 2 has written are bytes; ``as_text`` decodes them. What the arrays hold stays in the
    memory of the bytes that were read.

    Args:
        name: The dataset's name in error messages.
        path: The file.

    Raises:
        UserError: If it names anything but arrays and plain containers, or if it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _load(file, f"dataset '{name}': {path}")
    except OSError as error:
        raise UserError(f"dataset '{name}': {path} cannot be read ({error.strerror})") from error


def read_npy(name: str, path: Path) -> np.ndarray:
    """Return the array of a ``.npy`` file. If it is one of objects, they are read as ``read_pickle`` does.

    Args:
        name: The dataset's name in error messages.
        path: The file.

    Raises:
        UserError: If there is no such file, or if it is damaged.
    """
    where = f"dataset '{name}': {path}"
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            _, _, kind = header(file)
            if kind.hasobject:
                return np.asarray(_load(file, where))
            file.seek(0)
            found = np.asarray(np.load(file, allow_pickle=False))
            if found.dtype.kind == "U":
                _items(found.tobytes(), found.dtype)
            return found
    except FileNotFoundError as error:
        raise UserError(f"dataset '{name}': has no {path}") from error
    except UserError:
        raise
    except Exception as error:  # damaged bytes may be anything
        raise UserError(f"{where} is not a .npy file that can be read") from error


def as_text(value: Any) -> str:
    """Return a text that may be bytes, in UTF-8 or else in Latin 1, or a number."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def named(values: Any) -> dict[str, Any] | None:
    """Return a dictionary with its keys as texts; None for anything else."""
    return {as_text(key): value for key, value in values.items()} if isinstance(values, Mapping) else None


def _load(file: IO[bytes], where: str) -> Any:
    """Return what the rest of a file holds."""
    try:
        # A map's read returns no more than there is, whatever size a damaged pickle states
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            mapped.seek(file.tell())
            return _Unpickler(mapped, where).load()
    except UserError:
        raise
    except Exception as error:  # damaged bytes may be any operations with any operands
        raise UserError(f"{where} is not a pickle that can be read") from error


# The one written in Python: that in C takes as much memory as the largest number that an object is given
class _Unpickler(pickle._Unpickler):
    """Makes arrays and plain containers, and refuses all other names."""

    def __init__(self, file: mmap.mmap, where: str) -> None:
        super().__init__(file, encoding="bytes")  # what Python 2 has written may be the bytes of an array
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        home = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        allowed = _ALLOWED.get((home, name))
        if allowed is None:
            raise UserError(
                f"{self._where} holds {module}.{name}; only arrays, numbers, texts and plain containers are "
                "read"
            )
        return allowed


class _Type:
    """The type of an array's items, until its byte order is known."""

    def __init__(self, code: str) -> None:
        self.value = np.dtype(code)

    def __setstate__(self, state: Sequence[Any]) -> None:
        if as_text(state[1]) == ">":
            self.value = self.value.newbyteorder(">")


class _Array(np.ndarray):
    """An array that takes its content from a pickle."""

    def __setstate__(self, state: Sequence[Any]) -> None:
        shape, kind, by_columns, content = state[-4:]
        if kind.value.hasobject:
            size, content = len(content), list(content)
        else:
            content = _items(content, kind.value)
            size = len(content) / kind.value.itemsize
        if size != math.prod(shape := _sizes(shape)):
            raise ValueError("another size than the shape says")
        checked: Any = (1, shape, kind.value, bool(by_columns), content)
        super().__setstate__(checked)


def _items(content: Any, kind: np.dtype) -> bytes:
    """Return the bytes of an array's items, which Python 2 may have written as a text."""
    if kind.hasobject:
        raise ValueError("bytes are no objects")
    if isinstance(content, str):
        content = content.encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise ValueError("items that are no bytes")
    if kind.kind == "U":  # Python cannot make a text of what is no character
        numbers = np.frombuffer(content, np.dtype("u4").newbyteorder(kind.byteorder))
        if (numbers > sys.maxunicode).any():
            raise ValueError("items that are no characters")
    return bytes(content)


def _sizes(shape: Sequence[Any]) -> tuple[int, ...]:
    """Return an array's shape."""
    sizes = tuple(int(size) for size in shape)
    if min(sizes, default=0) < 0:
        raise ValueError("a size below 0")
    return sizes


def _dtype(code: Any, *_: Any) -> _Type:
    code = as_text(code)
    if not _TYPE.fullmatch(code):
        raise ValueError(f"no type of numbers, texts or objects: {code}")
    return _Type(code)


def _reconstruct(*_: Any) -> _Array:
    return np.ndarray.__new__(_Array, 0, "b")


def _from_buffer(content: Any, kind: _Type, shape: Any, order: Any) -> np.ndarray:
    flat = np.frombuffer(_items(content, kind.value), kind.value)
    return flat.reshape(_sizes(shape), order="F" if order == "F" else "C")


def _scalar(kind: _Type, content: Any) -> Any:
    return np.frombuffer(_items(content, kind.value), kind.value, 1)[0]


def _encode(text: Any, encoding: Any) -> bytes:
    if as_text(encoding) not in ("latin1", "latin-1"):
        raise ValueError(f"not the encoding of bytes: {encoding}")
    return bytes(text.encode("latin-1"))


def _ndarray(*_: Any) -> None:
    raise ValueError("the class of arrays is only named, never called")


def _no_bytes() -> bytes:
    return b""


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _ndarray,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytes"): _no_bytes,
}
