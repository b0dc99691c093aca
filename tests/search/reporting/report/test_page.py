"""The report's page, opened in headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.reporting.report.page import render
from tests.search.reporting.report.documents import document

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests."""
    if CHROMIUM is None:
        pytest.skip("needs the browser chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def test_it_is_one_small_file() -> None:
    text = render(document())
    assert len(text.encode()) < 4e6
    assert "src=" not in text.split('id="document"')[0]


def test_it_opens_without_errors_and_without_a_network(browser, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render(document()), encoding="utf-8")
    page = browser.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("#front .chart .main-svg")
    assert said == []
    assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
