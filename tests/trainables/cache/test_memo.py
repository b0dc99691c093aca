"""Values that outlive a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.cache.memo import Memo


def _memo(path: Path) -> Memo:
    return Memo((), (), path)


def test_remembers_for_as_long_as_the_program_is_the_same(tmp_path) -> None:
    module, package = tmp_path / "module.py", tmp_path / "package"
    package.mkdir()
    module.write_text("a = 1")

    def memo(*packages: str) -> Memo:
        return Memo((module, package), packages, tmp_path / "memo")

    memo().put("a", {"total": 3})
    assert memo().get("a") == {"total": 3}
    assert memo().get("b") is None
    assert memo("pytest").get("a") is None
    module.write_text("a = 2")
    assert memo().get("a") is None
    module.write_text("a = 1")
    assert memo().get("a") == {"total": 3}
    (package / "new.py").touch()
    assert memo().get("a") is None


def test_does_without_a_file_that_cannot_be_used(tmp_path) -> None:
    (tmp_path / "file").touch()
    useless = _memo(tmp_path / "file" / "below a file")
    useless.put("a", {"total": 3})
    assert useless.get("a") is None
    (tmp_path / "folder").mkdir()
    assert _memo(tmp_path / "folder").get("a") is None


def _zero_a_page(content: bytes) -> bytes:
    return content[:4096] + bytes(4096) + content[8192:]


def _flip_in_a_name(content: bytes) -> bytes:
    return content.replace(b"CREATE TABLE memo", b"CREATE TABLE m\xeemo")


def _flip_a_digit(content: bytes) -> bytes:
    assert content.count(b'{"total": 3}') == 1
    return content.replace(b'{"total": 3}', b'{"total": 2}')


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"no database at all" * 100,
        lambda content: bytes(len(content)),
        lambda content: content[: len(content) // 2 + 5],
        _zero_a_page,
        _flip_in_a_name,
        _flip_a_digit,
    ],
    ids=["foreign", "zeroed", "cut", "page", "name", "flipped"],
)
def test_a_damaged_file_is_set_aside_and_made_again(tmp_path, capfd, harm) -> None:
    path = tmp_path / "memo.sqlite"
    _memo(path).put("a", {"total": 3})
    path.write_bytes(harm(path.read_bytes()))
    kept = _memo(path)
    assert kept.get("a") is None
    kept.put("a", {"total": 3})
    assert _memo(path).get("a") == {"total": 3}
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{path} was damaged (")
    assert (tmp_path / "memo.damaged").exists()
