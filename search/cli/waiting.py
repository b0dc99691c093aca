"""What the user sees while libraries are imported, which takes seconds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from trainables.garbage import garbage_kept


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show in a terminal what is being done, and import libraries faster.

    Args:
        what: What is being done, for example ``loading PyTorch``.
    """
    from rich.live import Live
    from rich.spinner import Spinner

    from search.reporting.progress import error_console

    # Libraries keep the streams that they find when they are imported, so these stay as they are.
    shown = Live(
        Spinner("dots", what),
        console=error_console(),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with shown, garbage_kept():
        try:
            yield
        finally:
            gc.freeze()  # what was imported stays, so the collector need not look at it
