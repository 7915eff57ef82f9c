"""What lies on a card, what is given back to its driver, and what is said of the room on it."""

from __future__ import annotations

import pytest
import torch

from pipelines.library.read.card import read_folder
from pipelines.machine import device
from pipelines.machine.device import Placement
from pipelines.models.cache import Budget, PipelineCache
from pipelines.models.loading import bytes_of, load
from pipelines.requests import Txt2Img, make

QUICK = dict(prompt="a red cat", steps=2, width=64, height=64, seed=5, sampler="DDIM",
             schedule="Automatic")
ROOM = Budget(10**12, 10**12)


def cache_on(device="cuda", offload="none"):
    placement = Placement(device, "float32", "float32", offload)

    def read(card):
        parts = load(card, placement)
        return parts, placement, bytes_of(parts)

    return PipelineCache(read, ROOM)


@pytest.mark.parametrize("offload", ["none", "group"])
def test_a_vacated_card_is_free_for_another_process(sd_folder, offload):
    from pipelines.families import FAMILIES
    from pipelines.generation import generate

    free = torch.cuda.mem_get_info()[0]
    cache, request = cache_on(offload=offload), make(Txt2Img, **QUICK, guidance_scale=3.0)
    with cache.lease(read_folder(sd_folder, "m"), "txt2img") as lease:
        list(generate.run(request, lease.pipe, FAMILIES["sd15"], {}.get))
    assert torch.cuda.mem_get_info()[0] < free
    del lease
    cache.vacate()
    assert torch.cuda.mem_get_info()[0] == free
    with cache.lease(read_folder(sd_folder, "m"), "txt2img") as lease:  # and it draws as before
        list(generate.run(request, lease.pipe, FAMILIES["sd15"], {}.get))


def test_weights_that_wait_in_host_memory_are_not_counted_as_room_on_the_card(make_studio):
    studio = make_studio("--offload", "model")
    studio.submit(make(Txt2Img, **QUICK)).wait(600)
    (resident,) = studio.status().loaded
    assert resident.parked and resident.size_bytes > 0
    assert studio._engines[0].room_bytes("cuda") == device.free_bytes("cuda")


def test_bfloat16_is_chosen_only_where_the_card_multiplies_it(monkeypatch):
    asked_of = []

    def supported(including_emulation=True):
        asked_of.append(torch.cuda.current_device())
        return including_emulation or torch.cuda.current_device() == 0

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    large = dict(unet_parameters=10**9, half_vae=True, wide=True)
    assert device.choose("cuda:0", **large).dtype == "bfloat16"
    assert device.choose("cuda:1", **large).dtype == "float32"
    assert device.choose("cuda:1", "bfloat16", **large).dtype == "bfloat16"  # as somebody asked
    assert device.choose("cuda:1", unet_parameters=10**9, half_vae=True).dtype == "float16"
    assert asked_of == [0, 1, 1] and torch.cuda.current_device() == 0


@pytest.mark.parametrize("family", ["flux"])
def test_work_and_copies_are_queued_on_the_card_that_was_chosen(make_studio, tmp_path, family):
    from tests.card import pretend
    from tests.tiny_families import write_tiny

    flags = ["--device", "cuda:1", "--offload", "group"]
    if family != "sd15":
        flags += ["--model", str(write_tiny(family, tmp_path / family))]
    studio = make_studio(*flags)
    with pretend.recorded() as seen:
        done = studio.submit(make(Txt2Img, **{**QUICK, "sampler": None, "schedule": None})).wait(600)
    assert len(done.records) == 1
    assert {each.what for each in seen if each.kind == "stream"} == {"cuda:1"}
