"""Model cards: what a model is, how good it is, and how it is used, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.exporting.commands import usage
from search.templating import fill

_TEMPLATE = Path(__file__).parent / "templates" / "card.md"
#: The folder in the commands of a card, which is read beside the model.
_HERE = "FOLDER"


def card(about: Mapping[str, Any]) -> str:
    """Return the card of a model, in Markdown.

    Args:
        about: What is known of it, see ``Teller.about``.
    """
    kinds = {name: encoder["kind"] for name, encoder in about["encoders"].items()}
    values = {**about, "usage": usage(_HERE, kinds)}
    return fill(_TEMPLATE, values, {"cell": _cell, "code": _code})


def _cell(value: Any) -> str:
    """Return a value as it stands in a cell of a table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split()).replace("|", "\\|")


def _code(value: Any) -> str:
    """Return a value as code within a line, whatever it holds."""
    text = _cell(value)
    fence = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"
