"""Plugins: Python files of a user that add methods, tasks, spaces or objectives."""

from __future__ import annotations

import hashlib
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import UserError


@dataclass(frozen=True)
class Plugin:
    """A Python file that registers methods, tasks, spaces or objectives when it runs.

    The content is sent to other processes and nodes as text, so the file need not exist there. A plugin may
    import installed packages, but not files of its own folder.

    Attributes:
        path: The file's path, for messages.
        source: The file's content.
    """

    path: str
    source: str

    @classmethod
    def read(cls, path: str | Path) -> Plugin:
        """Return the plugin in a file.

        Raises:
            UserError: If the file cannot be read.
        """
        try:
            return cls(str(path), Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--plugin {path}: cannot be read ({_reason(error)})") from error

    def load(self) -> None:
        """Run the file, unless this process has done so already.

        Raises:
            UserError: If the file raises an error; the message names the line.
        """
        name = f"paretofuse_plugin_{hashlib.sha256(self.source.encode()).hexdigest()[:12]}"
        if name in sys.modules:
            return
        module = types.ModuleType(name)
        module.__file__ = self.path
        sys.modules[name] = module  # ``dataclass`` looks up the module of its class
        try:
            exec(compile(self.source, self.path, "exec"), module.__dict__)
        except UserError as error:
            del sys.modules[name]
            raise UserError(f"--plugin {self.path}: {error}") from error
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"--plugin {self.path}{self._line(error)}: {_reason(error)}") from error

    def _line(self, error: Exception) -> str:
        if isinstance(error, SyntaxError):
            return f", line {error.lineno}"
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.path]
        return f", line {lines[-1]}" if lines else ""


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
