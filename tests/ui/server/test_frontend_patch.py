"""Gradio's front end is served with quick searches, and nothing else of it is touched. That it works is shown by
the browser tests, which all run on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from ui.server import frontend_patch

CORE = [path.name for path in frontend_patch.ASSETS.glob("core-*.js")]


@pytest.fixture
def client():
    return TestClient(frontend_patch.Quick(PlainTextResponse("Gradio's")))


def test_both_searches_of_the_pinned_gradio_are_found_and_replaced(client):
    assert len(CORE) == 1
    answer = client.get(f"/assets/{CORE[0]}")
    assert answer.headers["content-type"].startswith("text/javascript")
    before = (frontend_patch.ASSETS / CORE[0]).read_text("utf-8")
    assert answer.text != before and abs(len(answer.text) - len(before)) < 1000
    for slow in frontend_patch.REPLACED:
        assert not frontend_patch.re.search(slow, answer.text)


@pytest.mark.parametrize("path", ["/", "/assets/index-0.js", "/assets/core-none.js", "/assets/core-none.css",
                                  "/assets/..%2fcore-x.js"])
def test_everything_else_is_left_to_gradio(client, path):
    assert client.get(path).text == "Gradio's"


def test_a_script_that_is_not_as_expected_stays_as_it_is(client, tmp_path, monkeypatch):
    (tmp_path / "core-new.js").write_text("function find(tree){}")
    monkeypatch.setattr(frontend_patch, "ASSETS", Path(tmp_path))
    assert client.get("/assets/core-new.js").text == "Gradio's"


def test_nothing_is_added_to_the_page_after_it_was_built():
    for path in Path(frontend_patch.__file__).parent.rglob("*.py"):
        assert path.name == "frontend_patch.py" or "gr.render" not in path.read_text("utf-8"), path
