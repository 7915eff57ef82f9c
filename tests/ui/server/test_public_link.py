"""The public link while it is open, and the panel of jobs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.context import LocalContext

from pipelines.errors import StudioError
from pipelines.queue.jobs import JobQueue
from pipelines.requests import Txt2Img, make
from pipelines.requests.caller import Caller
from ui import queue_panel, visitors
from ui.server import public_link
from ui.server.hosts import Hosts
from ui.server.public_link import DIED, ENDED, EXPIRED, PublicLink, banner
from ui.server.sharing import Link
from ui.visitors import Visitor

HOST = "abc.share.example"


@pytest.fixture
def program() -> Iterator[subprocess.Popen]:
    """What stands for the share program: it runs until it is told to end."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def link(program: subprocess.Popen) -> Link:
    hosts = Hosts("127.0.0.1")
    hosts.share(HOST)
    return Link(f"https://{HOST}", SimpleNamespace(proc=program), hosts)


def until(fact: object) -> None:
    """Wait for a fact that another thread brings about."""
    waiting = threading.Event()
    for _ in range(6000):
        if fact():
            return
        waiting.wait(0.02)
    raise AssertionError("it never came")


def as_visitor(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what follows run in an event of this visitor."""
    headers = {name.decode(): value.decode() for name, value in visitor.headers}
    request = SimpleNamespace(headers=headers, cookies={})
    monkeypatch.setattr(LocalContext, "request", SimpleNamespace(get=lambda default=None: request))


OWNER, GUEST, OTHER = Visitor("a" * 32, True, True), Visitor("b" * 32, True), Visitor("c" * 32, True)


def test_a_link_is_shown_and_one_click_ends_it(link: Link, program: subprocess.Popen,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    public = PublicLink()
    with gr.Blocks() as demo:
        _, shown = banner(public)
    assert shown()[0].visible is False
    public.opened(link, 12)
    as_visitor(OWNER, monkeypatch)
    row, line, button = shown()
    assert row.visible and HOST in line and "prompt and seed" in line and button.visible
    click, = (event for event in demo.fns.values() if event.fn)
    as_visitor(GUEST, monkeypatch)
    assert shown()[2].visible is False
    with pytest.raises(gr.Error, match="owner"):
        click.fn()
    assert program.poll() is None
    as_visitor(OWNER, monkeypatch)
    _, line, button = click.fn()
    assert line == ENDED and not button.visible
    assert program.poll() is not None and HOST not in link.hosts and not public.end()


def test_the_banner_stands_above_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.settings import load
    from pipelines.studio.studio import Studio
    from ui import shell

    studio = Studio(load(["--data-dir", str(tmp_path), "--share"], {}))
    try:
        page = shell.build(studio)
        assert page.children[0].elem_id == "public-banner"
    finally:
        studio.close()


def test_a_tunnel_that_dies_later_is_shown(link: Link, program: subprocess.Popen) -> None:
    public = PublicLink()
    public.opened(link, 12)
    program.stdin.close()
    until(lambda: public.over)
    assert public.line() == DIED and public.url == "" and HOST not in link.hosts


def test_a_link_ends_when_its_time_is_over(link: Link, program: subprocess.Popen) -> None:
    public = PublicLink()
    public.opened(link, 1e-5)
    until(lambda: program.poll() is not None)
    until(lambda: public.over)
    assert public.line() == EXPIRED


# Who asks


def test_invented_page_ids_are_one_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    as_visitor(GUEST, monkeypatch)
    asked = [visitors.caller(f"{number:032x}.{number:032x}") for number in range(40)]
    assert {each.owner for each in asked} == {GUEST.id} and all(each.is_guest for each in asked)
    mine = visitors.page_of("x.page")
    as_visitor(OTHER, monkeypatch)
    assert visitors.page_of("x.page") != mine  # the name of another's page is not the way to their job


def test_on_a_page_of_this_machine_a_browser_is_who_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    as_visitor(Visitor("d" * 32, is_owner=True), monkeypatch)
    assert visitors.caller("browser.tab") == Caller("browser.tab", "browser")
    assert visitors.caller() == Caller()


# Jobs


class Jobs:
    """A studio's jobs, and nothing else of it."""

    def __init__(self, queue: JobQueue):
        self.jobs = lambda: queue.jobs


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    gate = threading.Event()

    def work(job: object) -> Iterator[object]:
        gate.wait(30)
        yield from ()

    made = JobQueue(work)
    yield made
    gate.set()
    made.close()


def test_a_guest_sees_their_own_jobs_and_the_owner_all(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    request = make(Txt2Img, width=128, height=64, steps=7, batch_count=4)
    for visitor in (GUEST, OTHER):
        queue.submit(request, "txt2img", Caller(page=f"{visitor.id}.x", owner=visitor.id, is_guest=True))
    seen = {}
    for visitor in (OWNER, GUEST, OTHER):
        as_visitor(visitor, monkeypatch)
        seen[visitor] = [queue_panel.described(job, "x.y") for job in queue_panel.visible(Jobs(queue), "x.y")]
    assert [len(seen[visitor]) for visitor in (OWNER, GUEST, OTHER)] == [2, 1, 1]
    assert seen[OWNER][1].endswith("Text to image · 128 × 64 px, 7 steps · 4 pictures · guest cccccc")
    assert "guest" not in seen[GUEST][0]


def test_the_panel_offers_what_its_visitor_may_do(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    with gr.Blocks() as demo:
        queue_panel.build(Jobs(queue), gr.Textbox(), gr.Button())
    listed = next(event.fn for event in demo.fns.values() if event.fn and len(event.inputs) == 1)
    for visitor in (OWNER, GUEST):
        as_visitor(visitor, monkeypatch)
        jobs, line, end, end_all, restart = listed("x.y")
        assert (end.interactive, end_all.interactive, jobs.interactive) == (False, False, False) and "No job" in line
        assert restart.visible == visitor.is_owner
    queue.submit(make(Txt2Img), "txt2img", Caller(page="p", owner=GUEST.id, is_guest=True))
    assert [part.interactive for part in listed("x.y")[2:4]] == [True, True]


def test_the_worker_is_not_restarted_while_it_works(tmp_path: object) -> None:
    from pipelines.settings import load
    from pipelines.studio.studio import Studio

    studio = Studio(load(["--data-dir", str(tmp_path)], {}))
    try:
        with pytest.raises(StudioError, match="Nothing hangs"):
            studio.restart_worker()
    finally:
        studio.close()


def test_what_is_said_of_an_ended_link_is_in_the_table() -> None:
    from ui import language

    assert {public_link.ENDED, public_link.DIED, public_link.EXPIRED} <= language.table("de").keys()
