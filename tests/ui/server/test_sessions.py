"""What is kept of a visitor: the values of a page, not descriptions of its components."""

from __future__ import annotations

import gradio as gr
import pytest
from gradio.state_holder import StateHolder
from gradio_client import Client

from pipelines.settings import load
from tests.work import calls
from ui import shell
from ui.server import sessions
from ui.server.launch import launch


@pytest.fixture
def running(tmp_path):
    with gr.Blocks(analytics_enabled=False) as demo:
        count, box, shown = gr.State(0), gr.Textbox(visible=False), gr.Textbox()
        gr.Button().click(lambda number: (number + 1, gr.Textbox(visible=True, value="seen"), str(number + 1)), count,
                          [count, box, shown], api_name="count")
    server = launch(demo, load(["--data-dir", str(tmp_path)], {}), port=0)
    yield server
    server.close()


def test_each_visitor_has_values_of_their_own_which_last(running):
    one, other = (Client(running.url, verbose=False) for _ in range(2))
    assert [one.predict(api_name="/count")[-1] for _ in range(3)] == ["1", "2", "3"]
    assert other.predict(api_name="/count")[-1] == "1"
    kept = running.demo.state_holder
    assert {one.session_hash, other.session_hash} <= set(kept.session_data)
    assert all(not any(session.config_values.values()) for session in kept.session_data.values())


def test_a_new_visitor_costs_next_to_nothing(studio):
    page = shell.build(studio)
    costs = []
    for holder in (sessions.Sessions(), StateHolder()):
        holder.set_blocks(page)
        costs.append(calls(holder.__getitem__, "visitor"))
    ours, gradios = costs
    assert 20 * ours < gradios  # which describes all of the page's components
