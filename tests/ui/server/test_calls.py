"""Wrong values over HTTP, on the real page: a readable refusal or an event's own words, and a short log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest

from pipelines.settings import load
from pipelines.studio.studio import Studio
from ui import shell
from ui.server.launch import launch
from ui.server.sparse import LINES, ShortTraceback, Sparse, in_short

WRONG = (None, True, 1, -1.5, 1e308, "", "x" * 300, "__" + "y" * 300 + "__", [], [1], ["x"], {}, {"path": 1},
         {"path": None, "meta": {"_type": "gradio.FileData"}}, [[[]]], {"background": 1, "layers": [1]})
LOG = 400  # bytes that a refused request may cost the log


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, gr.Blocks, Path]]:
    """The whole page, served; nothing waits for the model that it would load first."""
    folder = tmp_path_factory.mktemp("data-of-somebody")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "cache"))
        settings = load(["--data-dir", str(folder)], {})
        studio = Studio(settings)
        demo = shell.build(studio)
        running = launch(demo, settings, port=0)
        yield running.url, demo, folder
        running.close()
        studio.close()


def test_neither_the_page_nor_its_config_tell_where_the_data_lies(page: tuple[str, gr.Blocks, Path]) -> None:
    url, _, folder = page
    with httpx.Client(base_url=url, timeout=60) as client:
        for path in ("", "config", "gradio_api/info"):
            assert folder.name not in client.get(path).text, path
        icons = [block["props"]["icon"]["url"] for block in client.get("config").json()["components"]
                 if isinstance(block["props"].get("icon"), dict)]
        assert icons and client.get(icons[0]).status_code == 200  # and what it shows is there


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"1", b"null", b"{}", b'{"data": 1}',
                                  b'{"data": [], "fn_index": "1"}', b'{"data": [], "fn_index": true}',
                                  b'{"data": [], "fn_index": 99999}',
                                  b'{"data": [], "fn_index": -1}', b'{"data": [], "session_hash": 1, "fn_index": 1}',
                                  b'{"data": [], "event_data": 1, "fn_index": 1}',
                                  b'{"data": [], "batched": true, "fn_index": 1}'])
def test_a_body_that_is_no_call_is_refused(page: tuple[str, gr.Blocks, Path], body: bytes) -> None:
    url, _, _ = page
    for path in ("queue/join", "call/txt2img", "run/leaving", "call/nothing", "cancel", "reset"):
        answer = httpx.post(f"{url}gradio_api/{path}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (path, answer.text)
        if path != "reset":
            assert answer.status_code >= 400, path


def test_wrong_kinds_of_values_never_reach_gradio(page: tuple[str, gr.Blocks, Path],
                                                  capfd: pytest.CaptureFixture[str]) -> None:
    """Every event that answers at once, with a wrong value in each place: what is refused says which value."""
    url, demo, folder = page
    asked = refused = 0
    capfd.readouterr()
    with httpx.Client(base_url=url, timeout=60) as client:
        for index, event in demo.fns.items():
            if event.fn is None or not event.inputs:
                continue
            right = [getattr(part, "value", None) for part in event.inputs]
            for place in {0, len(right) // 2, len(right) - 1}:
                wrong = WRONG[(index + place) % len(WRONG)]
                data = [*right[:place], wrong, *right[place + 1:]]
                body = json.dumps({"data": data, "fn_index": index, "session_hash": "s"}, default=str)
                answer = client.post("gradio_api/queue/join" if event.queue else f"gradio_api/run/{event.api_name}",
                                     content=body, headers={"content-type": "application/json"})
                asked += 1
                if answer.status_code == 422:
                    refused += 1
                    assert folder.name not in answer.text and 10 < len(answer.text) < 200, answer.text
                assert answer.status_code != 500, (event.api_name, event.fn, wrong, answer.text)
            if event.queue:
                client.post("gradio_api/cancel", json={"session_hash": "s", "fn_index": index, "event_id": ""})
    assert refused > 50
    assert len("".join(capfd.readouterr())) < LOG * asked


@pytest.mark.parametrize(("name", "values"), [
    ("txt2img", {"steps": "many"}), ("txt2img", {"steps": None, "prompt": None}), ("txt2img", {"prompt": ["x"]}),
    ("txt2img", {"prompt": "__" + "y" * 300 + "__", "dynamic": "all"}), ("txt2img", {"model": 5}),
    ("img2img", {"image": None}), ("img2img", {"image": "x"}), ("img2img", {"image": {"path": 5}}),
    ("inpaint", {"image": {}, "mask": []}),
    ("txt2img", {"styles": 5}), ("txt2img", {"width": 1e308}), ("txt2img", {"sampler": {}})])
def test_an_endpoint_says_what_is_wrong(page: tuple[str, gr.Blocks, Path], name: str, values: dict[str, Any],
                                        capfd: pytest.CaptureFixture[str]) -> None:
    url, demo, folder = page
    event = next(each for each in demo.fns.values() if each.api_name == name)
    from inspect import signature

    fields = [each for each in signature(event.fn).parameters if each != "caller"]
    data = [values.get(field, part.value) for field, part in zip(fields, event.inputs, strict=True)]
    capfd.readouterr()
    with httpx.Client(base_url=url, timeout=60) as client:
        joined = client.post(f"gradio_api/call/{name}", json={"data": data})
        if joined.status_code == 200:
            told = client.get(f"gradio_api/call/{name}/{joined.json()['event_id']}").text
            assert "event: error" in told and "null" not in told and "went wrong" not in told, told
        else:
            assert joined.status_code in (400, 403, 422), joined.text
    assert "Traceback" not in "".join(capfd.readouterr())


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
