"""The report as one HTML file that opens without a network.

The file holds the document as JSON, and scripts that show it. Texts of the document are data everywhere: the
scripts never read them as HTML. The page's content security policy lets a browser run no other script than
those that are written here, and load nothing from anywhere.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from search.templating import fill

_TEMPLATES = Path(__file__).parent / "templates"
#: The scripts, in the order in which they need each other; the page runs them as one module.
_SCRIPTS = (
    "elements",
    "numbers",
    "document",
    "state",
    "charts",
    "tables",
    "front",
    "points",
    "budget",
    "members",
    "progress",
    "parameters",
    "parallel",
    "memory",
    "answers",
    "trials",
    "background",
    "main",
)
#: Characters of JSON that could end a script element or a line of a script, as JSON writes them otherwise.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(document: Mapping[str, Any]) -> str:
    """Return the page of a report.

    Args:
        document: What the page shows, see ``document_of``. Numbers that are not finite are shown as missing.

    Returns:
        The whole HTML file. It is about 2 MB without the document's pictures, most of it plotly.js.
    """
    script = _script()
    packed, plotly = _plotly()
    values = {
        "names": [search["name"] for search in document["searches"]],
        "verdicts": [
            (search["name"], search["verdict"]) for search in document["searches"] if search.get("verdict")
        ],
        "version": document["version"],
        "made": f"{datetime.fromisoformat(document['made']).astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "scripts_allowed": f"'{_hash(script)}' '{plotly}'",
        "style": (_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        "document": _embedded(document),
        "plotly": packed,
        "script": script,
    }
    page = fill(_TEMPLATES / "page.html", values, html=True)
    # A text may hold half of a surrogate pair, which no file can.
    return page.encode("utf-8", "replace").decode("utf-8")


def _embedded(document: Mapping[str, Any]) -> str:
    """Return the document as JSON that may stand in an HTML file, in ASCII."""
    return json.dumps(_finite(document), allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def _finite(value: Any) -> Any:
    """Return a value of JSON with null for numbers that JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


@cache
def _script() -> str:
    """Return the page's scripts as one."""
    return "\n".join((_TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)


@cache
def _plotly() -> tuple[str, str]:
    """Return plotly.js, compressed and in base64, and the hash by which a browser knows it."""
    from plotly.offline import get_plotlyjs

    text = get_plotlyjs()
    # The same page for the same document: no time in the header.
    packed = gzip.compress(text.encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode(), _hash(text)


def _hash(script: str) -> str:
    """Return a script's hash as a content security policy writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
