"""One studio with a tiny model, one server and one Chromium for all browser tests; a fresh visitor for each."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from . import drive


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory):
    """A second tiny model, which likes other settings than the first."""
    from tests.tiny import tiny_sd

    folder = tiny_sd(tmp_path_factory.mktemp("others") / "other-sd", seed=1)
    (folder / "atelier.json").write_text(json.dumps({
        "title": "The other one", "note": "draws in four steps", "steps": 4,
        "examples": [{"prompt": "a red cat", "seed": 8}, {"prompt": "x", "steps": 0}]}))
    return folder


@pytest.fixture(scope="session")
def store():
    """A server on loopback that stands in for the sites that models are downloaded from."""
    from tests.pipelines.downloads.conftest import serving

    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def studio(tmp_path_factory, sd_folder, other_folder, store):
    from pipelines.settings import load
    from pipelines.studio.studio import Studio

    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder),
                          "--model-dir", str(other_folder.parent), "--download-hosts", store.origin], {}))
    yield studio
    studio.close()


@pytest.fixture(scope="session")
def url(studio):
    from ui import shell
    from ui.server.launch import launch

    server = launch(shell.build(studio), studio.settings, port=0)
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    if drive.CHROMIUM is None:
        pytest.fail("no Chromium on PATH; `make chromium` installs one, NO_BROWSER=1 leaves these tests out")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=drive.CHROMIUM, args=drive.ARGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, url, request):
    """Open the page as a new visitor; at the end nobody's page may have had errors or asked anybody outside."""
    opened = []

    def visit(width: int = 1400, height: int = 900):
        context = chromium.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        page.set_default_timeout(drive.SLOW_MS)
        page.seen = drive.Seen(page)
        opened.append((context, page))
        drive.open_page(page, url)
        return page

    yield visit
    for number, (context, page) in enumerate(opened):
        if os.environ.get("SHOTS"):
            page.screenshot(path=Path(os.environ["SHOTS"]) / f"{request.node.name}-{number}.png")
        context.close()
    for _, page in opened:
        assert (page.seen.errors, page.seen.outside) == ([], [])


@pytest.fixture
def page(visit):
    return visit()
