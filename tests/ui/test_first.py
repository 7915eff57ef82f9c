"""What is done to a page on its way to the browser: its first script is put in, and it is sent compressed."""

from __future__ import annotations

from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.testclient import TestClient

from ui.language.first import First, script

PAGE = "<html><head><title>Ä</title></head><body>" + "much " * 10_000 + "</body></html>"


def test_a_page_begins_with_the_script_and_is_sent_small():
    answer = TestClient(First(HTMLResponse(PAGE))).get("/")
    assert answer.text == PAGE.replace("<head>", "<head>" + script().decode())
    assert answer.headers["content-encoding"] == "gzip" and answer.headers["vary"] == "accept-encoding"
    assert int(answer.headers["content-length"]) < len(PAGE) / 10


def test_who_takes_nothing_compressed_gets_the_same_page_plain():
    answer = TestClient(First(HTMLResponse(PAGE))).get("/", headers={"accept-encoding": "identity"})
    assert answer.text == PAGE.replace("<head>", "<head>" + script().decode())
    assert "content-encoding" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_what_is_no_page_is_handed_on_as_it_is():
    answer = TestClient(First(PlainTextResponse("<head>"))).get("/")
    assert answer.text == "<head>" and "content-encoding" not in answer.headers
