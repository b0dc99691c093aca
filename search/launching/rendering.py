"""Fills the templates."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from search.templating import fill

_TEMPLATES = Path(__file__).parent / "templates"
#: Texts that YAML reads as they stand, with a slash, a letter or a tilde in front.
_PLAIN = re.compile(r"[A-Za-z/~][\w./~-]*")
_NOT_TEXTS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "~"}


def render(template: str, **values: Any) -> str:
    """Return the text of a template.

    In a template, ``value | yaml`` is a value as YAML reads it back, and ``value | shell`` a word of a shell
    command.

    Args:
        template: Name of the file in ``templates/``.
        **values: The template's variables; one that is missing is an error.
    """
    # Not HTML: what needs quotes has them by the filters.
    return fill(_TEMPLATES / template, values, {"yaml": _yaml, "shell": shlex.quote})


def _yaml(value: Any) -> str:
    """Return a value in YAML: texts without quotes where none are needed, all else as JSON."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXTS:
        return value
    return json.dumps(value, ensure_ascii=False)
