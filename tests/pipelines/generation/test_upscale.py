"""Upscaling: windows that cover, blends without a seam, sizes to the pixel, and what is refused in words."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import Cancelled, RequestError
from pipelines.events import ImageReady, StepDone
from pipelines.library.checkpoints import EMBEDDED
from pipelines.queue.control import Control
from pipelines.requests import Img2Img, Txt2Img, Upscale, changed, make
from pipelines.settings import load
from pipelines.studio.studio import Studio

from .draw import FaultAt, components, events, pictures, same

BASE = dict(prompt="a red cat", sampler="DPM++ 2M", schedule="Automatic", steps=4, guidance_scale=5.0, seed=7,
            image="a", strength=0.5, tile=64)


@pytest.fixture(scope="module")
def demo():
    """The embedded model: what it draws into a tile depends on what it sees there."""
    return "sd15", components(EMBEDDED)


@pytest.fixture
def studio(tmp_path, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path / "data"), "--model", str(sd_folder)], {}))
    yield studio
    studio.close()


def smooth(size=(64, 64)):
    """A picture without an edge of its own, so that every step that is seen was made."""
    y, x = np.mgrid[:size[1], :size[0]].astype(float)
    return Image.fromarray(np.stack([x * 200 / size[0], y * 200 / size[1], 128 + 0 * x], -1).astype(np.uint8))


# Windows

@pytest.mark.parametrize(("height", "width", "tile", "overlap"), [
    (8, 8, 8, 0.25), (5, 30, 8, 0.25), (64, 23, 8, 0.5), (17, 16, 8, 0.0), (9, 100, 8, 0.1)])
def test_windows_of_one_size_cover_everything_with_the_overlap_asked_for(height, width, tile, overlap):
    from pipelines.generation.windows import cover

    windows = cover(height, width, tile, tile, overlap)
    seen = np.zeros((height, width), int)
    for each in windows:
        seen[each.top:each.bottom, each.left:each.right] += 1
    assert seen.min() == 1 and seen.shape == (height, width)
    assert {(each.bottom - each.top, each.right - each.left) for each in windows} == {(min(tile, height),
                                                                                       min(tile, width))}
    columns = sorted({(each.left, each.right) for each in windows})
    for (_, end), (start, _) in zip(columns, columns[1:], strict=False):
        assert end - start >= round(tile * overlap)


def test_a_blend_of_what_was_there_is_what_was_there():
    import torch

    from pipelines.generation.windows import by_windows, cover

    x = torch.rand(2, 3, 21, 34)
    windows = cover(21, 34, 8, 8, 0.25)
    assert torch.allclose(by_windows(x, windows, lambda part: part), x, atol=1e-6)
    doubled = by_windows(x, windows, lambda part: part.repeat_interleave(2, -1).repeat_interleave(2, -2), 2)
    assert torch.allclose(doubled[..., ::2, ::2], x, atol=1e-6)


def test_what_windows_disagree_about_becomes_a_slope_and_not_a_step():
    import torch

    from pipelines.generation.windows import by_windows, cover

    def largest_step(overlap):
        windows = cover(16, 64, 16, 16, overlap)
        levels = iter(range(len(windows)))
        whole = by_windows(torch.zeros(1, 1, 16, 64), windows, lambda part: part + next(levels) % 2)
        return float(whole.diff(dim=-1).abs().max())

    assert largest_step(0.0) == 1.0
    assert largest_step(0.25) < 0.4 and largest_step(0.5) < 0.25


# Drawing

def test_with_one_tile_it_is_image_to_image(sd):
    image = smooth()
    ours = pictures(sd, make(Upscale, **BASE, scale=1.0), {"a": image}, task="img2img")
    shared = {name: value for name, value in BASE.items() if name != "tile"}
    theirs = pictures(sd, make(Img2Img, **shared, width=64, height=64), {"a": image}, task="img2img")
    assert same(ours[0], theirs[0])


def step_at_borders(image, tile, overlap):
    """Mean step between the two columns at a border of a tile, as a multiple of the mean step elsewhere."""
    from pipelines.generation.windows import cover

    pixels = np.asarray(image, float)
    steps = np.abs(np.diff(pixels, axis=1)).mean((0, 2))
    windows = cover(image.height // 8, image.width // 8, tile // 8, tile // 8, overlap)
    borders = {side * 8 for each in windows for side in (each.left, each.right)} - {0, image.width}
    at = np.zeros(len(steps), bool)
    at[[border - 1 for border in borders]] = True
    grid = np.arange(len(steps)) % 8 == 7  # the decoder itself has a step between latents: compare like with like
    return steps[at].mean() / steps[grid & ~at].mean()


def test_the_step_across_the_borders_of_tiles_is_as_everywhere_else(demo):
    request = make(Upscale, **{**BASE, "sampler": "Euler", "prompt": "a red apple, noto style, white background",
                               "strength": 0.4, "steps": 6, "tile": 128}, scale=2.0)
    made, = pictures(demo, request, {"a": smooth((128, 96))}, task="img2img")
    assert step_at_borders(made, 128, request.overlap) < 1.2


def test_a_large_picture_goes_through_the_autoencoder_in_windows_without_a_seam(sd, monkeypatch):
    request = make(Upscale, **{**BASE, "strength": 0.2}, scale=4.0)
    whole, = pictures(sd, request, {"a": smooth()}, task="img2img")
    # a limit low enough for pictures that a test can afford
    monkeypatch.setattr("pipelines.generation.windows.VAE_ROOM_BYTES", 1000)
    monkeypatch.setattr("pipelines.generation.windows.VAE_WINDOW_PX", 128)
    parts, = pictures(sd, request, {"a": smooth()}, task="img2img")
    assert not same(whole, parts)
    assert step_at_borders(parts, 128, 0.25) < 1.15


@pytest.mark.parametrize(("size", "scale", "result"), [((33, 70), 2.0, (66, 140)), ((101, 65), 1.5, (152, 98))])
def test_the_result_has_the_size_asked_for_to_the_pixel(sd, size, scale, result):
    made, = pictures(sd, make(Upscale, **BASE, scale=scale), {"a": smooth(size)}, task="img2img")
    assert made.size == result


def test_half_transparent_colours_keep_their_darkness(sd):
    image = Image.new("RGBA", (64, 64), (200, 40, 0, 128))
    ready, = events(sd, make(Upscale, **BASE, redraw=False), {"a": image}, task="img2img")
    assert ready.image.getpixel((64, 64)) == pytest.approx((200, 40, 0, 128), abs=1)


def test_transparency_is_enlarged_with_the_picture(sd):
    image = smooth()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    made, = pictures(sd, make(Upscale, **BASE), {"a": image}, task="img2img")
    assert made.mode == "RGBA"
    assert same(made.getchannel("A"), image.getchannel("A").resize((128, 128), Image.Resampling.LANCZOS))


def test_without_new_detail_it_is_only_enlarged(sd):
    seen = events(sd, make(Upscale, **BASE, redraw=False), {"a": smooth()}, task="img2img")
    ready, = seen
    assert isinstance(ready, ImageReady)
    assert same(ready.image, smooth().resize((128, 128), Image.Resampling.LANCZOS))


def test_stop_ends_within_one_tile(sd):
    from pipelines.families import FAMILIES
    from pipelines.generation import generate
    from pipelines.models.cache import build

    control = Control()
    run = generate.run(make(Upscale, **BASE, scale=3.0), build("sd15", "img2img", sd[1]), FAMILIES["sd15"],
                       {"a": smooth()}.__getitem__, control)
    first = next(event for event in run if isinstance(event, StepDone))
    assert (first.step, first.steps) == (1, 2 * 16)
    control.stop.set()
    with pytest.raises(Cancelled):
        next(run)


# Asking

def test_an_upscaled_picture_is_saved_with_what_makes_it_again(studio):
    image = studio.images.add(smooth())
    asked = make(Upscale, prompt="a cat", image=image.id, steps=2, width=160)
    record, = studio.submit(asked).wait(60).records
    assert (record.width, record.height, record.task) == (160, 160, "upscale")
    assert "Upscale by: 2.5" in record.infotext and "Tile size: 64" in record.infotext
    resolved = studio.resolver.resolve(asked)
    assert studio.resolver.resolve(resolved) == resolved and resolved.scale == 2.5


@pytest.mark.parametrize(("values", "message"), [
    ({"image": ""}, "Picture: none was given"), ({"scale": 9.0}, "Scale: 9 is not possible"),
    ({"width": 32}, "Scale: 0.5 is not possible for a picture of 64x64 px. It must be from 1 to 8"),
    ({"upscaler": "4x-UltraSharp"}, "Upscaler: '4x-UltraSharp' is not here. The nearest is"),
    ({"upscaler": "../../secret"}, "is not here"), ({"tile": 100}, "multiple of 8")])
def test_what_cannot_be_upscaled_is_refused_in_words(studio, values, message):
    image = studio.images.add(smooth())
    with pytest.raises(RequestError, match=message):
        studio.submit(make(Upscale, **{"image": image.id, **values}))


def test_a_result_beyond_the_limits_is_refused_before_anything_is_made(studio):
    wide = studio.images.add(smooth((4096, 512)))
    with pytest.raises(RequestError, match="Scale: 4 is not possible for a picture of 4096x512 px. .* 1 to 2.$"):
        studio.submit(make(Upscale, image=wide.id, scale=4.0))


def test_a_second_pass_beyond_main_memory_is_refused_before_it_takes_the_machine_down(sd, monkeypatch):
    from pipelines.errors import OutOfMemory

    # a machine with little memory
    monkeypatch.setattr("pipelines.machine.device.host_free_bytes", lambda: 200_000_000)
    request = make(Txt2Img, prompt="a", seed=1, steps=4, sampler="Euler", schedule="Automatic", guidance_scale=5.0,
                   width=1024, height=1024, hires_scale=4.0)
    with (FaultAt(sd[1]["unet"], ()) as calls,
          pytest.raises(OutOfMemory, match="4096x4096 px, which is hires scale 4. Try 2.8. About .* GB would be need")):
        events(sd, request)
    assert calls.count == 0
    assert pictures(sd, make(Upscale, **BASE), {"a": smooth()}, task="img2img")  # tiles need little, however large


# Learned upscalers

def network(scale, wide=3, width=8):
    """Two convolutions that see `wide` px of the picture together, and are no simple enlargement."""
    import torch

    torch.manual_seed(scale)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, wide, padding=wide // 2), torch.nn.Tanh(),
        torch.nn.Conv2d(width, 3 * scale**2, wide, padding=wide // 2), torch.nn.Sigmoid(),
        torch.nn.PixelShuffle(scale))
    return layers.eval()


def noisy(size):
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8))


def enlarged(image, layers, scale, size):
    """The picture, and what was told of its parts."""
    from pipelines.generation.tiled_upscaling import by_network

    parts, told = by_network(image, layers, scale, size, "cpu"), []
    while True:
        try:
            told.append(next(parts))
        except StopIteration as end:
            return end.value, told


@pytest.mark.parametrize(("scale", "wide", "size"), [(2, 5, (130, 97)), (4, 3, (61, 140)), (8, 3, (40, 33))])
def test_parts_give_what_the_network_makes_of_the_whole_picture(scale, wide, size, monkeypatch):
    import torch

    # small parts, so that a small picture has many
    monkeypatch.setattr("pipelines.generation.tiled_upscaling.PART_PX", 32 * scale)
    image, layers = noisy(size), network(scale, wide)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        whole = layers(pixels)[0].permute(1, 2, 0).numpy() * 255
    made, told = enlarged(image, layers, scale, (size[0] * scale, size[1] * scale))
    assert made.size == (size[0] * scale, size[1] * scale)
    assert np.abs(np.asarray(made, float) - whole).max() <= 1
    assert len(told) > 3 and told == [(i, len(told)) for i in range(1, len(told) + 1)]


def test_a_network_that_looks_far_leaves_no_step_between_parts(monkeypatch):
    import torch

    def brightened(x):  # by what lies in the whole part
        mean = x.mean((-1, -2), keepdim=True)
        return torch.nn.functional.interpolate((x + mean) / 2, scale_factor=2.0)

    monkeypatch.setattr("pipelines.generation.tiled_upscaling.PART_PX", 128)
    made = np.asarray(enlarged(smooth((192, 192)), brightened, 2, (384, 384))[0], int)
    assert max(np.abs(np.diff(made, axis=axis)).max() for axis in (0, 1)) <= 4  # a hard edge would be of 25


@pytest.mark.parametrize(("scale", "wanted", "passes"), [
    (4, 3.5, [4]), (4, 8, [4, 2]), (4, 1.5, [2]), (2, 8, [2, 2, 2]), (8, 8, [8]), (3, 2, [3]), (4, 1, [])])
def test_the_result_is_large_enough_and_never_much_larger(scale, wanted, passes):
    from pipelines.generation.tiled_upscaling import _factors

    assert _factors((64, 48), scale, (round(64 * wanted), round(48 * wanted))) == passes
    made, _ = enlarged(noisy((24, 20)), network(scale), scale, (round(24 * wanted), round(20 * wanted)))
    assert made.size == (24 * int(np.prod(passes)), 20 * int(np.prod(passes)))


def test_the_memory_of_a_tall_picture_is_that_of_a_short_one(monkeypatch):
    import torch

    from benchmarks.activations import peak

    monkeypatch.setattr("pipelines.generation.tiled_upscaling.PART_PX", 256)
    layers = network(4, width=16)

    def most(size):
        return peak(lambda: enlarged(noisy(size), layers, 4, (size[0] * 4, size[1] * 4)))

    short, tall = most((128, 128)), most((128, 768))
    assert tall < 1.05 * short
    with torch.inference_mode():
        whole = peak(lambda: layers(torch.zeros(1, 3, 768, 128)))
    assert tall < whole / 3


def test_stop_ends_an_enlargement_between_two_parts_and_skip_leaves_it_out(sd, monkeypatch):
    from pipelines.families import FAMILIES
    from pipelines.generation import generate
    from pipelines.generation.tiled_upscaling import by_network
    from pipelines.models.cache import build

    monkeypatch.setattr("pipelines.generation.tiled_upscaling.PART_PX", 64)
    layers, seen = network(2), []

    def counted(x):
        seen.append(x.shape)
        return layers(x)

    def enlarge(image, name, size, device):
        return by_network(image, counted, 2, size, device)

    def run(control, **changes):
        seen.clear()
        return generate.run(make(Upscale, **{**BASE, **changes}), build("sd15", "img2img", sd[1]), FAMILIES["sd15"],
                            {"a": smooth((96, 64))}.__getitem__, control, enlarge=enlarge)

    for redraw in (True, False):
        control = Control()
        stopped = run(control, redraw=redraw)
        first = next(stopped)
        assert (first.doing, first.step, first.steps, first.image) == ("Enlarging, part {} of {}", 1, 15, 1)
        control.stop.set()
        with pytest.raises(Cancelled):
            next(stopped)
        assert len(seen) <= 2
        skipping = Control()
        skipping.skip.set()
        assert not [event for event in run(skipping, redraw=redraw) if isinstance(event, ImageReady)]
    made = list(run(Control(), batch_count=2))
    assert [event.image.size for event in made if isinstance(event, ImageReady)] == [(192, 128)] * 2
    assert len(seen) == 15  # once for both


def test_files_of_learned_upscalers_are_found_by_name_and_no_others(tmp_path):
    from pipelines.generation.upscalers import Upscalers

    models = tmp_path / "models"
    for name in ("data/upscalers/ours.safetensors", "models/ESRGAN/theirs.safetensors", "models/ESRGAN/pickle.pth",
                 "models/loras/lora.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (models / "ESRGAN" / "linked.safetensors").symlink_to(models / "loras" / "lora.safetensors")
    found = Upscalers(load(["--data-dir", str(tmp_path / "data"), "--model-dir", str(models)], {}))
    assert found.names() == ("Lanczos", "ours", "theirs")


def test_without_the_package_a_learned_upscaler_is_a_sentence(studio, monkeypatch):
    # a machine without the package, whatever is installed here
    monkeypatch.setattr("pipelines.generation.upscalers.PACKAGE", "no_such_package")
    file = studio.settings.data_dir / "upscalers" / "sharp.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    image = studio.images.add(smooth())
    with pytest.raises(RequestError, match="sharp is a learned one and needs the package no_such_package"):
        studio.submit(make(Upscale, image=image.id, upscaler="sharp"))
    text = make(Txt2Img, prompt="a", hires_scale=2.0, hires_upscaler="sharp")
    with pytest.raises(RequestError, match="Hires upscaler: sharp is a learned one"):
        studio.submit(text)
    assert studio.resolver.resolve(changed(text, hires_scale=1.0))  # without a second pass it does not matter
