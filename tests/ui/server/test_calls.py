"""Wrong values over HTTP, on the real page: a readable refusal or an event's own words, and a short log."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.settings import load
from pipelines.studio.studio import Studio
from tests.ui import web
from ui import shell
from ui.server.launch import Running, launch
from ui.server.sparse import LINES, ShortTraceback, Sparse, in_short

WRONG = (None, True, 1, -1.5, 1e308, "", "x" * 300, "__" + "y" * 300 + "__", [], [1], ["x"], {}, {"path": 1},
         {"path": None, "meta": {"_type": "gradio.FileData"}}, [[[]]], {"background": 1, "layers": [1]})
PASSWORD = "violet-otter-71"
LOG = 400  # bytes that a refused request may cost the log


@dataclass
class Page:
    """client: a guest who has logged in."""

    client: httpx.Client
    running: Running
    studio: Studio
    folder: Path

    def event(self, name: str) -> Any:
        return next(each for each in self.running.demo.fns.values() if each.api_name == name)

    def join(self, name: str, **values: Any) -> httpx.Response:
        """Call an endpoint with some of its fields; the others have their defaults."""
        event = self.event(name)
        fields = [each for each in signature(event.fn).parameters if each != "caller"]
        data = [values.get(field, part.value) for field, part in zip(fields, event.inputs, strict=True)]
        return self.client.post(f"gradio_api/call/{name}", json={"data": data})

    def answer(self, name: str, joined: httpx.Response) -> str:
        return self.client.get(f"gradio_api/call/{name}/{joined.json()['event_id']}").text


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The whole page as a guest meets it."""
    folder = tmp_path_factory.mktemp("data-of-somebody")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "cache"))
        settings = load(["--data-dir", str(folder), "--host", "0.0.0.0", "--auth", f"ann:{PASSWORD}"], {})
        studio = Studio(settings)
        demo = shell.build(studio)
        running = launch(demo, settings, port=0)
        with web.Client(base_url=running.url, timeout=120) as client:
            client.post("login", data={"username": "ann", "password": PASSWORD}).raise_for_status()
            yield Page(client, running, studio, folder)
        running.close()
        studio.close()


def test_neither_the_page_nor_its_config_tell_where_the_data_lies(page: Page) -> None:
    for path in ("", "config", "gradio_api/info"):
        assert page.folder.name not in page.client.get(path).text, path
    icons = [block["props"]["icon"]["url"] for block in page.client.get("config").json()["components"]
             if isinstance(block["props"].get("icon"), dict)]
    assert icons and page.client.get(icons[0]).status_code == 200  # and what it shows is there


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"1", b"null", b"{}", b'{"data": 1}',
                                  b'{"data": [], "fn_index": "1"}', b'{"data": [], "fn_index": true}',
                                  b'{"data": [], "fn_index": 99999}',
                                  b'{"data": [], "fn_index": -1}', b'{"data": [], "session_hash": 1, "fn_index": 1}',
                                  b'{"data": [], "batched": true, "fn_index": 1}'])
def test_a_body_that_is_no_call_is_refused(page: Page, body: bytes) -> None:
    for path in ("queue/join", "call/txt2img", "run/leaving", "call/nothing", "cancel", "reset"):
        answer = page.client.post(f"gradio_api/{path}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (path, answer.text)
        if path != "reset":
            assert answer.status_code >= 400, path


def test_the_page_sends_the_text_of_a_box_with_its_event(page: Page) -> None:
    """As a box's input event does, which counts the prompt's tokens."""
    index = next(index for index, event in page.running.demo.fns.items() if event.fn and not event.queue
                 and [type(part).__name__ for part in event.inputs] == ["Textbox", "Dropdown"])
    body = {"data": ["a frog", "atelier-demo"], "event_data": "a frog", "fn_index": index, "session_hash": "s"}
    answer = page.client.post("gradio_api/run/predict", json=body)
    assert answer.status_code == 200, answer.text


def test_wrong_kinds_of_values_never_reach_gradio(page: Page,
                                                  capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong value in an event's first, middle and last place: what is refused says which value."""
    asked = refused = 0
    capfd.readouterr()
    for index, event in page.running.demo.fns.items():
        if event.fn is None or not event.inputs or event.queue:
            continue
        right = [getattr(part, "value", None) for part in event.inputs]
        for place in {0, len(right) // 2, len(right) - 1}:
            wrong = WRONG[(index + place) % len(WRONG)]
            body = json.dumps({"data": [*right[:place], wrong, *right[place + 1:]], "fn_index": index,
                               "session_hash": "s"}, default=str)
            answer = page.client.post(f"gradio_api/run/{event.api_name}", content=body,
                                      headers={"content-type": "application/json"})
            asked += 1
            if answer.status_code == 422:
                refused += 1
                assert page.folder.name not in answer.text and 10 < len(answer.text) < 200, answer.text
            assert answer.status_code != 500, (event.api_name, event.fn, wrong, answer.text)
    assert refused > 20
    assert len("".join(capfd.readouterr())) < LOG * asked


@pytest.mark.parametrize(("name", "values"), [
    ("txt2img", {"steps": "many"}), ("txt2img", {"steps": None, "prompt": None}), ("txt2img", {"prompt": ["x"]}),
    ("txt2img", {"prompt": "__" + "y" * 300 + "__", "dynamic": "all"}), ("txt2img", {"model": 5}),
    ("img2img", {"image": None}), ("img2img", {"image": "x"}), ("img2img", {"image": {"path": 5}}),
    ("inpaint", {"image": {}, "mask": []}),
    ("txt2img", {"styles": 5}), ("txt2img", {"width": 1e308}), ("txt2img", {"sampler": {}})])
def test_an_endpoint_says_what_is_wrong(page: Page, name: str, values: dict[str, Any],
                                        capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    joined = page.join(name, **values)
    if joined.status_code == 200:
        told = page.answer(name, joined)
        assert "event: error" in told and "null" not in told and "went wrong" not in told, told
    else:
        assert joined.status_code in (400, 403, 422), joined.text
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_guest_has_four_jobs_and_the_owner_ends_them(page: Page) -> None:
    """However many are asked for at once: 40 of them once filled the queue, and nobody could end them."""
    joined = [page.join("txt2img", steps=150, batch_count=16, prompt=str(number)) for number in range(4)]
    end = time.monotonic() + 120
    while len(page.studio.jobs()) < 4:  # calls run side by side: which of eight come first is left open
        assert time.monotonic() < end, page.studio.jobs()
        time.sleep(0.02)
    joined += [page.join("txt2img", steps=150, batch_count=16, prompt=str(number)) for number in range(4, 8)]
    told = [page.answer("txt2img", one) for one in joined[4:]]
    assert all("You have 4 jobs" in text for text in told), told
    jobs = page.studio.jobs()
    assert len(jobs) == 4 and len({job.owner for job in jobs}) == 1 and all(job.is_guest for job in jobs)
    large = page.join("txt2img", width=1024, height=1024, steps=150, batch_count=16)
    assert "jobs" in page.answer("txt2img", large)
    assert page.studio.end(owner=jobs[0].owner) == 4
    for one in joined[:4]:
        assert "event: complete" in page.answer("txt2img", one)
    large = page.join("txt2img", width=1024, height=1024, steps=150, batch_count=16)
    assert "million pixel steps" in page.answer("txt2img", large)


def test_a_log_takes_only_so_many_lines() -> None:
    now, lines = [0.0], []
    log = Sparse(lambda text, *values: lines.append(text % values), "errors", clock=lambda: now[0])
    for number in range(1000):
        log(f"line {number} {'x' * 10_000}")
    assert len(lines) == LINES and max(map(len, lines)) <= 300
    now[0] = 61
    log("later")
    assert lines[-2:] == [f"{1000 - LINES} more errors in the last minute are not listed.", "later"]


def test_an_error_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("a\nb" * 1000)
    except ValueError as error:
        assert "\n" not in in_short(error) and len(in_short(error)) < 400 and "test_calls.py" in in_short(error)
        told = io.StringIO()
        with redirect_stderr(told):
            ShortTraceback().print_exc()
        assert told.getvalue() == ""
    assert "ValueError" in caplog.text
