"""Values become a request by name, and every error becomes one sentence without paths or module names."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from pipelines import events
from pipelines.errors import RequestError
from pipelines.queue.jobs import JobQueue
from pipelines.requests import Inpaint, Txt2Img, make
from ui.forms import mask_editor
from ui.results import panel as results
from ui.results import progress
from ui.results.panel import Shown, joined, owner_of
from ui.wiring import guarded, problem, toast


def test_our_own_errors_are_said_in_their_own_words():
    assert problem(RequestError("Steps: 0 is not possible.", "steps")) == "Steps: 0 is not possible."


def test_any_other_error_is_an_id_on_the_page_and_a_traceback_in_the_log(caplog):
    with caplog.at_level(logging.ERROR):
        message = problem(ValueError("/srv/secret/path.py broke"))
    assert message.startswith("Something went wrong (id ") and "/" not in message
    name = message.removeprefix("Something went wrong (id ").removesuffix(")")
    assert name in caplog.text and "/srv/secret/path.py broke" in caplog.text


def test_what_somebody_typed_is_no_markup_in_a_toast():
    assert toast("Sampler: '<img src=x>' is not possible.").message.count("<") == 0


def test_a_guarded_handler_raises_only_readable_errors():
    def broken(_value):
        raise RequestError("Picture: there is none yet.", "image")

    with pytest.raises(gr.Error, match="Picture: there is none yet"):
        guarded(broken)("x")


def test_a_step_is_told_in_words():
    step = events.StepDone(7, 20, 2, 4, 11.23, 61.4)
    assert progress.step_line(step) == "Step 7 of 20 · picture 2 of 4 · 11.2 it/s · 1 min 1 s left"
    assert progress.step_line(events.StepDone(1, 20, 1, 1, 0.25, 76)) == "Step 1 of 20 · 4.0 s/it · 1 min 16 s left"
    enlarging = events.StepDone(3, 16, 1, 1, 2.0, 6.5, doing="Enlarging, part {} of {}")
    assert progress.step_line(enlarging) == "Enlarging, part 3 of 16 · 2.0 it/s · 6 s left"


def test_waiting_says_how_many_are_before():
    assert progress.waiting_line(1) == "Waiting: 1 job before this one"
    assert progress.waiting_line(1, loads=True) == "Waiting for the model to be loaded ..."
    assert progress.waiting_line(3) == "Waiting: 3 jobs before this one"


def test_stop_says_what_it_kept():
    record = events.Record(Path("a.png"), "", 1, 8, 8, "txt2img")
    grid = events.Record(Path("b.png"), "", 1, 8, 8, "txt2img", is_grid=True)
    assert progress.finished_line(events.Finished((record, grid), 3.21)) == "1 picture in 3.2 s"
    assert progress.finished_line(events.Finished((record, record), 3)) == "2 pictures in 3.0 s · 1.5 s each"
    assert progress.finished_line(events.Finished((record, record), 3, stopped=True)) == "Stopped. 2 pictures kept."
    assert progress.finished_line(events.Finished((), 3, stopped=True)).startswith("Stopped before")


def test_the_bar_holds_numbers_only():
    request = make(Txt2Img, prompt="<script>", width=512, height=256)
    bar = progress.bar("running", events.StepDone(5, 20, 2, 2, 1, 15), request)
    assert "script" not in bar
    assert 'aria-valuenow="62"' in bar and 'data-left="15"' in bar and 'data-width="512"' in bar


def test_a_preview_gets_the_shape_of_the_picture_so_that_nothing_jumps():
    preview = Image.new("RGB", (16, 8))
    assert progress.enlarged(preview, make(Txt2Img, width=128, height=64)).size == (128, 64)
    assert progress.enlarged(preview, make(Txt2Img, width=2048, height=1024)).size == (512, 256)
    assert progress.enlarged(preview, make(Inpaint, width=128, height=64)).size == (16, 8)


def test_the_newest_pictures_come_first_and_none_twice():
    def shown(key):
        return Shown(key, key, "", "", 0, key)

    made, earlier = [shown("c"), shown("d")], [shown("c"), shown("b"), shown("a")]
    assert [each.key for each in joined(made, earlier)] == ["c", "d", "b", "a"]


def test_a_picture_that_the_cache_forgot_is_brought_back_for_a_page_that_was_open_for_days(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    saved = tmp_path / "2026-05-01" / "00001-7.png"
    saved.parent.mkdir()
    Image.radial_gradient("L").resize((600, 400)).save(saved)
    shown = Shown.of(events.Record(saved, "a cat", 7, 600, 400, "txt2img"))
    for _ in range(2):
        picture, thumbnail = Path(shown.path), Path(shown.thumbnail)
        assert picture.read_bytes() == saved.read_bytes() and max(Image.open(thumbnail).size) == 256
        picture.unlink()
        thumbnail.unlink()


def test_a_run_goes_on_when_a_picture_cannot_be_shown(tmp_path, monkeypatch):
    def work(job):
        yield events.StepDone(1, 2, 1, 1, 1.0, 1.0, preview=Image.new("RGB", (8, 8)))
        shown.wait(300)
        yield events.Saved(events.Record(tmp_path / "1.png", "a cat", 7, 64, 64, "txt2img"))

    shown = threading.Event()
    Image.new("RGB", (64, 64)).save(tmp_path / "1.png")
    (tmp_path / "cache").write_bytes(b"")  # no folder can be made there
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    with gr.Blocks():
        panel = results.panel("txt2img", progress.status_lines("txt2img"), results.hint(""))
    queue, said = JobQueue(work), {}
    for update in progress.relay(panel, queue.submit(make(Txt2Img), "txt2img"), []):
        if str(update.get(panel.status, "")).startswith("Step 1 of 2"):
            assert panel.picture not in update  # Gradio would fail to write it, and nothing more would be told
            shown.set()
        said |= update
    queue.close()
    assert shown.is_set() and "A picture could not be shown" in said[panel.notices]
    assert "Seed 7 makes it again." in said[panel.notices]
    assert said[panel.status].startswith("1 picture in") and 'data-state="done"' in said[panel.bar]


def test_a_visitor_belongs_to_a_browser():
    assert owner_of("browser.tab") == "browser" and owner_of("") == ""


def test_a_see_through_stroke_masks_fully_and_the_rest_not_at_all(tmp_path):
    layer = Image.new("RGBA", (64, 32), (0, 0, 0, 0))
    layer.paste((229, 57, 122, round(255 * mask_editor.PAINT_ALPHA)), (0, 0, 32, 32))
    layer.save(tmp_path / "layer.png")
    mask = mask_editor.painted_mask([str(tmp_path / "layer.png")], (64, 32))
    assert mask.getpixel((10, 10)) == 255 and mask.getpixel((50, 10)) == 0
    assert mask_editor.painted_mask(None, (8, 8)).getbbox() is None


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_drawing_that_no_page_would_send_is_refused(tmp_path, content):
    path = tmp_path / "layer.png"
    path.write_bytes(content)
    with pytest.raises(RequestError, match="Mask"):
        mask_editor.painted_mask([str(path)], (8, 8))


def test_too_many_or_too_large_layers_are_refused(tmp_path):
    path = tmp_path / "layer.png"
    Image.new("RGBA", (3000, 1)).save(path)
    with pytest.raises(RequestError, match="Mask"):
        mask_editor.painted_mask([str(path)], (8, 8))
    with pytest.raises(RequestError, match="the limit is 4"):
        mask_editor.painted_mask([str(path)] * 5, (8, 8))


def test_a_kept_mask_is_shown_in_the_picture():
    mask = Image.new("L", (8, 8))
    mask.paste(255, (0, 0, 4, 8))
    shown = mask_editor.tinted(Image.new("RGB", (16, 16), "black"), mask)
    assert shown.getpixel((1, 8)) != (0, 0, 0) and shown.getpixel((14, 8)) == (0, 0, 0)
