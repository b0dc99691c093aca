"""A headless Chromium, and pages in it that remember what they said and asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield playwright's browser; skip the test if there is no Chromium."""
    if CHROMIUM is None:
        pytest.skip("needs the browser chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Opened:
    """A file in a page of a browser.

    Attributes:
        path: The file.
        page: Playwright's page.
        said: Messages of the console, and errors.
        asked: Addresses that were asked for, without those that the page holds itself.
    """

    def __init__(self, browser: Any, path: Path, script: str = "", **context: Any) -> None:
        """Open a file.

        Args:
            browser: Playwright's browser.
            path: The file.
            script: JavaScript that runs before the page's own.
            **context: Arguments of playwright's ``new_context``, such as ``viewport`` and ``color_scheme``.
        """
        self.path = path
        self.context = browser.new_context(reduced_motion="reduce", **context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.add_init_script(script)
        self.address = path.as_uri()
        self.page.goto(self.address)

    def _note(self, address: str) -> None:
        if address != self.address and not address.startswith(("data:", "blob:")):
            self.asked.append(address)

    def close(self) -> None:
        """Close the page."""
        self.context.close()
