"""Previews on a card: its queue is not their time, and they leave the weights where they are."""

from __future__ import annotations

import torch

from pipelines.families import FAMILIES
from pipelines.generation import decode
from pipelines.generation.decode import PREVIEW_EVERY_S, Previews
from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models.cache import build
from pipelines.models.loading import load
from pipelines.models.offload import offloaded
from tests.card import pretend

QUEUED_S = 1.0


def test_the_steps_in_a_cards_queue_are_not_the_previews_time(sd_folder, monkeypatch):
    pipe = build("sd15", "txt2img", load(read_folder(sd_folder, "m"), Placement("cuda", "float32", "float32")))
    waits_s = []  # nothing else takes time on this clock
    monkeypatch.setattr(pretend.time, "sleep", waits_s.append)
    monkeypatch.setattr(decode, "perf_counter", lambda: sum(waits_s))
    previews = Previews(pipe, FAMILIES["sd15"])
    previews._due = 0.0
    pretend.queued(QUEUED_S)
    assert previews.draw(torch.zeros(1, 4, 8, 8, device="cuda")) is not None
    assert waits_s == [QUEUED_S] and previews._due == QUEUED_S + PREVIEW_EVERY_S


def test_a_preview_sends_no_network_away_where_they_take_turns(sd_folder):
    placement = Placement("cuda", "float32", "float32", "model")
    pipe = build("sd15", "txt2img", load(read_folder(sd_folder, "m"), placement))
    with offloaded(pipe, placement):
        latents = torch.zeros(1, 4, 8, 8, device="cuda")
        pipe.unet(latents, 1, torch.zeros(1, 77, 32, device="cuda"))
        previews = Previews(pipe, FAMILIES["sd15"])
        previews._due = 0.0
        assert previews.draw(latents) is not None
        assert pipe.unet.device.type == "cuda" and pipe.vae.device.type == "cpu"
