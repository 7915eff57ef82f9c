"""Gradio's memory of its visitors, without what its deep links would need.

For them it describes every component of the page for each visitor, and those that change after each event. On a page
of 1,500 components that is half of what opening it costs the server. There are no deep links here (see guard.py), and
nothing is rendered anew (see frontend_patch.py), which alone would read the descriptions too.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gradio import Blocks
from gradio.state_holder import SessionState, StateHolder


class Session(SessionState):
    """What is kept of one visitor: values of gr.State, and components that events have changed."""

    def __init__(self, blocks: Blocks):
        undescribed: Any = SimpleNamespace(default_config=blocks.default_config, blocks={})
        super().__init__(undescribed)
        self.blocks_config.config_for_block = _describe_nothing  # type: ignore[method-assign,assignment]  # in a copy


def _describe_nothing(*component: object) -> dict:
    return {}


class Sessions(StateHolder):
    """The visitors of a page, by their session hash."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)


def install(demo: Blocks) -> None:
    """Let a launched page remember its visitors so."""
    demo.app.state_holder = Sessions()
    demo.app.state_holder.set_blocks(demo)
