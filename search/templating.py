"""Fills templates: cluster files, model cards, the report's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def fill(
    template: Path,
    values: Mapping[str, Any],
    filters: Mapping[str, Callable[[Any], str]] | None = None,
    *,
    html: bool = False,
) -> str:
    """Return the text of a template of Jinja2.

    Args:
        template: The file. It may include others of its folder.
        values: Its variables; one that is missing is an error.
        filters: Functions that it may apply to values, by name.
        html: Whether values are escaped, as HTML needs it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # takes a while to import

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(values)
