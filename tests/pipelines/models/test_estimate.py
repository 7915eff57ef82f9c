"""The memory estimate against what tensors of published shape take, and the choice that follows from it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest

from benchmarks import activations
from pipelines.errors import ModelError
from pipelines.events import ImageReady
from pipelines.families import FAMILIES
from pipelines.library.read.card import ModelCard, read_folder
from pipelines.machine.device import Placement
from pipelines.models import estimate, quantize
from pipelines.models.cache import build
from pipelines.models.estimate import Need, need, offload_for, placement_for, sentence
from pipelines.models.loading import bytes_of, load
from pipelines.models.offload import by_layers, offloaded
from pipelines.requests import Txt2Img, make
from pipelines.settings import Settings
from tests.tiny_families import write_tiny

HALF = Placement("cpu", "float16", "float16")
REQUEST = make(Txt2Img, prompt="a red cat", sampler="DDIM", schedule="Automatic", steps=2, guidance_scale=5.0, width=64,
               height=64, seed=1)


def card(family="sd15", **parameters):
    return ModelCard(name="m", title="m", path=None, family=family, kind="folder", size_bytes=10, native_size=512,
                     steps=20, guidance_scale=7, sampler="DDIM", schedule="Automatic", unet_parameters=1,
                     fingerprint="", parameters=parameters)


def draw(pipe, family="sd15"):
    from pipelines.generation import generate

    made = generate.run(REQUEST, pipe, FAMILIES[family], {}.get)
    return np.asarray(next(event.image for event in made if isinstance(event, ImageReady)), int)


def test_a_step_and_a_decode_of_published_shape_take_what_is_estimated():
    step = activations.unet_step("sd15", 256)
    assert need(card(unet=0), HALF, 256, 256).work >= step
    assert FAMILIES["sd15"].step_bytes * 256**2 * 2 == pytest.approx(step, rel=0.05)
    decoded = activations.decode("sd15", 256)
    assert need(card(unet=0), HALF, 256, 256).work == pytest.approx(max(step, decoded), rel=0.05)


def test_the_count_of_living_tensors_is_that_of_real_ones():
    import torch

    def run():
        a = torch.ones(1000)  # 4 kB
        b = a + 1
        del a
        return b * 2 + 1  # with b and the product: three at once

    assert activations.peak(run) == 12_000


def test_the_weights_are_those_that_will_be_loaded(sd_folder):
    found = read_folder(sd_folder, "tiny")
    for dtype in ("float32", "bfloat16"):
        placement = Placement("cpu", dtype, "float32")
        loaded = bytes_of(load(found, placement))
        assert need(found, placement, 64, 64).weights == pytest.approx(loaded, rel=0.01)


def test_more_pixels_pictures_and_guidance_need_more_and_a_large_decode_stays_in_its_windows():
    small, large = need(card(unet=0), HALF, 512, 512), need(card(unet=0), HALF, 1024, 1024)
    assert large.work == 4 * small.work
    many = need(card(unet=0), HALF, 512, 512, batch_size=8)
    assert many.work > small.work
    assert need(card(unet=0), HALF, 512, 512, batch_size=8, guided=False).work < many.work
    assert need(card(unet=0), HALF, 4096, 4096, guided=False).work <= estimate.DECODE_MOST_BYTES


def test_the_mode_that_fits_with_the_fewest_transfers_is_chosen_and_said():
    needed = Need(weights=10_000_000_000, largest=6_000_000_000, work=1_000_000_000)
    assert [offload_for(needed, free) for free in (11e9, 8e9, 3e9)] == ["none", "model", "group"]
    assert sentence(needed, "none", int(24e9)) == "Needs about 11.0 of 24 GB"
    assert "waiting in main memory" in sentence(needed, "model", int(8e9))
    assert sentence(needed, "none", int(8e9)).endswith("too much")


def test_a_run_that_is_larger_than_usual_lets_parts_wait_for_once():
    needed, whole = Need(weights=10**10, largest=6 * 10**9, work=10**9), Placement("cuda", "float16", "float16")

    def mode(usual, free, offload="auto"):
        return estimate.for_run(usual, needed, Settings(offload=offload), int(free)).offload

    assert [mode(whole, free) for free in (12e9, 8e9, 3e9)] == ["none", "model", "none"]
    assert mode(whole, 8e9, offload="none") == "none"  # as somebody asked
    assert mode(Placement("cpu", "float32", "float32"), 8e9) == "none"
    assert mode(Placement("cuda", "float16", "float16", offload="group"), 8e9) == "group"


def test_eight_bits_halve_the_weights_again_and_draw_nearly_the_same(sd_folder):
    found = read_folder(sd_folder, "tiny")
    plain = load(found, Placement("cpu", "bfloat16", "float32"))
    small = Placement("cpu", "bfloat16", "float32", weights="8-bit")
    eight = load(found, small)
    assert bytes_of({"unet": eight["unet"]}) < 0.55 * bytes_of({"unet": plain["unet"]})
    assert need(found, small, 64, 64).weights == pytest.approx(bytes_of(eight), rel=0.02)
    before, after = draw(build("sd15", "txt2img", plain)), draw(build("sd15", "txt2img", eight))
    assert 0 < np.abs(before - after).mean() < 6


def test_a_format_without_its_package_is_refused_in_a_sentence(monkeypatch):
    if quantize.is_installed():
        assert placement_for(card(), Settings(quantize="4-bit", device="cpu"), 10**10).weights == "4-bit"
    monkeypatch.setitem(sys.modules, quantize.PACKAGE, None)  # as where it is not installed
    with pytest.raises(ModelError, match="need the package bitsandbytes, which is not installed"):
        placement_for(card(), Settings(quantize="4-bit", device="cpu"), 10**10)


def test_eight_bits_are_refused_where_the_device_has_no_such_format(monkeypatch):
    # a Mac
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(ModelError, match="8-bit weights are not possible on an Apple GPU.*--quantize none"):
        placement_for(card(), Settings(quantize="8-bit", device="mps"), 10**10)
    assert placement_for(card(), Settings(device="mps"), 10**10).weights == ""
    assert placement_for(card(), Settings(quantize="8-bit", device="cpu"), 10**10).weights == "8-bit"


@pytest.mark.parametrize(("placement", "has_package", "advice"), [
    (Placement("cuda", "float16", "float16"), True, "start with --offload model."),
    (Placement("cuda", "float16", "float16", offload="model"), True, "start with --quantize 8-bit."),
    (Placement("cpu", "float32", "float32"), False, "start with --quantize 8-bit."),
    (Placement("cpu", "float32", "float32", weights="8-bit"), False, "or choose a smaller model."),
    (Placement("cpu", "float32", "float32", weights="8-bit"), True, "start with --quantize 4-bit."),
    (Placement("cpu", "float32", "float32", weights="4-bit"), True, "or choose a smaller model."),
    # a Mac
    (Placement("mps", "float16", "float32"), False, "or choose a smaller model."),
    (Placement("mps", "float16", "float32"), True, "start with --quantize 4-bit.")])
def test_a_model_that_does_not_fit_names_what_helps_where_it_was_to_lie(monkeypatch, placement, has_package, advice):
    package = ModuleType(quantize.PACKAGE)
    package.__spec__ = ModuleSpec(quantize.PACKAGE, None)
    monkeypatch.setitem(sys.modules, quantize.PACKAGE, package if has_package else None)  # whatever this machine has
    assert estimate.full(card(), placement).startswith("Not enough memory to load m. Close other programs, ")
    assert estimate.full(card(), placement).endswith(advice)


def test_eight_bits_never_need_the_room_of_sixteen_on_the_device(sd_folder, monkeypatch):
    import torch

    sent = []  # bytes of each U-Net weight that goes to its place
    plain = torch.nn.Module._apply

    def looked_at(module, change, *args, **kwargs):
        if type(module).__name__ == "UNet2DConditionModel":
            sent.append(bytes_of({"unet": module}))
        return plain(module, change, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "_apply", looked_at)
    eight = load(read_folder(sd_folder, "tiny"), Placement("cpu", "bfloat16", "float32", weights="8-bit"))
    assert sent and sent[-1] == bytes_of({"unet": eight["unet"]})


def test_a_model_that_reads_the_format_of_its_own_weights_draws_in_8_bits(tmp_path):
    found = read_folder(write_tiny("kandinsky2", tmp_path / "k"), "k")
    eight = load(found, Placement("cpu", "float32", "float32", weights="8-bit"))
    assert eight["unet"].encoder_hid_proj.image_embeds.weight.dtype.itemsize == 4
    assert eight["unet"].conv_in.weight.dtype.itemsize == 1
    assert draw(build("kandinsky2", "txt2img", eight), "kandinsky2").shape == (64, 64, 3)


@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_four_bits_take_an_eighth_of_float32_and_draw_nearly_the_same_with_a_lora_too(name, tmp_path, sdxl_folder):
    pytest.importorskip("bitsandbytes", reason="4-bit weights need the package bitsandbytes")
    import torch

    from pipelines.adapters import layer_names
    from pipelines.adapters.apply import applied
    from pipelines.adapters.delta import LowRank
    from pipelines.adapters.read import Adapter

    found = read_folder(sdxl_folder if name == "sdxl" else write_tiny(name, tmp_path / name), name)
    plain = load(found, Placement("cpu", "float32", "float32"))
    four = load(found, Placement("cpu", "float32", "float32", weights="4-bit"))
    core = FAMILIES[name].core
    linear = [path for path, layer in plain[core].named_modules() if isinstance(layer, torch.nn.Linear)]
    for path in linear:
        whole, packed = (parts[core].get_submodule(path).weight for parts in (plain, four))
        assert packed.numel() * packed.element_size() * 8 <= whole.numel() * whole.element_size() + 8
    torch.manual_seed(0)
    parts = {path: LowRank(torch.randn(2, layer.in_features), 0.05 * torch.randn(layer.out_features, 2), 2.0)
             for path, layer in layer_names.layers(build(name, "txt2img", plain)).items()
             if path.startswith(core) and isinstance(layer, torch.nn.Linear)}
    ink = Adapter("ink", parts, len(parts))

    def drawn(components, *uses):
        pipe = build(name, "txt2img", components)
        with applied(pipe, uses):
            return draw(pipe, name)

    before = drawn(four)
    assert 0 < np.abs(drawn(plain) - before).mean() < 12
    with_ink = drawn(four, (ink, 1.0, 1.0))
    assert np.abs(with_ink - before).mean() > 2 * np.abs(with_ink - drawn(plain, (ink, 1.0, 1.0))).mean()
    assert (drawn(four) == before).all()


def test_what_is_kept_in_four_bits_is_counted_so():
    sizes = {bits: need(card("sdxl", unet=10**9), Placement("cpu", "bfloat16", "float32", weights=bits), 64, 64).weights
             for bits in ("", "8-bit", "4-bit")}
    assert sizes["4-bit"] < sizes["8-bit"] < sizes[""]


@pytest.mark.parametrize("mode", ["model", "group"])
def test_an_offloaded_model_draws_the_same_picture_and_is_whole_afterwards(sd_folder, mode):
    components = load(read_folder(sd_folder, "tiny"), Placement("cpu", "float32", "float32"))
    pipe = build("sd15", "txt2img", components)
    before = draw(pipe)
    placement = Placement("cpu", "float32", "float32", offload=mode)  # the device is played by the CPU
    if mode == "group":
        for part in ("unet", "vae", "text_encoder"):
            by_layers(components[part], placement)
    with offloaded(pipe, placement):
        assert (draw(pipe) == before).all()
    assert (draw(build("sd15", "txt2img", components)) == before).all()
    assert not hasattr(components["unet"], "_hf_hook")
