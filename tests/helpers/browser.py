"""Pages in a real browser, Chromium, without a network."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
)
# DVC's own template smooths a curve; Vega warns about it until it has data.
OF_DVC = "WARN Infinite extent for field"
ShowPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def show_page(browser: Browser) -> Iterator[ShowPage]:
    """Open a file in the browser, and fail on warnings, errors and requests to elsewhere."""
    problems: list[str] = []
    contexts = []

    def show(path: Path, **options: Any) -> Page:
        def check_message(message: ConsoleMessage) -> None:
            is_dvcs = message.type == "warning" and "dvc_plots" in path.parts
            if not is_dvcs and not message.text.startswith(OF_DVC):
                problems.append(message.text)

        def check_request(request: Request) -> None:
            if not request.url.startswith(("data:", path.parent.as_uri())):
                problems.append(request.url)

        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", check_message)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", check_request)
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert problems == []
