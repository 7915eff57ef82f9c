"""The recipe at tiny sizes: settings, captions, states, and the road from drawings to a folder."""

import dataclasses
import json
import random

import numpy as np
import pytest

from pipelines.demo import data, recipe
from pipelines.demo.config import Config

TINY = Config(concepts=4, image_px=32, variants=1, vae_channels=(8, 8), vae_groups=4, merges=40, text_width=16,
              text_layers=1, text_heads=2, unet_channels=(16, 16), unet_attention=(False, True), unet_heads=(2, 2),
              unet_groups=8, batch=4, held_out=0.0)
CONCEPTS = [data.Concept("dog face", "1f436", ("puppy", "pet")), data.Concept("cat face", "1f431", ("kitty", "pet")),
            data.Concept("apple", "1f34e"), data.Concept("star", "2b50", ("sky",))]


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    """Four concepts in four styles: opaque discs and squares of different colours, (4, 4, 128, 128, 4)."""
    rng = np.random.default_rng(0)
    array = np.zeros((4, 4, 128, 128, 4), np.uint8)
    for i in range(4):
        for s in range(4):
            array[i, s, 16 + 8 * i:112, 16:112 - 8 * s] = (*rng.integers(0, 255, 3), 255)
    return array


@pytest.mark.parametrize("field, value", [
    ("image_px", 90), ("latent_channels", 8), ("vae_channels", (10, 20)), ("unet_heads", (2,)),
    ("unet_heads", (3, 3)), ("text_width", 17), ("held_out", 0.9), ("crossed", 1.0), ("batch", 0), ("lr", 0.0),
    ("unet_attention", (False, False))])
def test_wrong_sizes_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} = "):
        dataclasses.replace(TINY, **{field: value}).check()


def test_the_shipped_sizes_are_sound():
    assert Config().check().latent_px == 16


def test_a_wrong_size_ends_the_command_before_any_work(tmp_path, capsys):
    assert recipe.main(["--stage", "unet", "--steps", "1", "--batch", "0", "--cache-dir", str(tmp_path)]) == 1
    assert "batch = 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_package_that_cannot_be_had_says_what_to_fetch_by_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data.shutil, "which", lambda name: None)
    assert recipe.main(["--stage", "data", "--cache-dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err.strip()
    assert "npm pack @iconify-json/noto@" in message and "\n" not in message


def test_captions_say_what_they_are_recorded_to_say():
    rng = random.Random(0)
    seen = [data.caption(CONCEPTS[0], "fluent flat", "pink", rng) for _ in range(2000)]
    for c in seen:
        if c.text:
            assert (c.style is None) or "fluent flat style" in c.text
            assert (c.colour is None) == ("background" not in c.text)
            assert any(word in c.text for word in ("dog", "puppy", "pet"))
    assert 0.07 < sum(c.text == "" for c in seen) / len(seen) < 0.13
    assert "a dog face, fluent flat style, pink background" in {c.text for c in seen}
    assert "dog" in {c.text for c in seen}


def test_a_vowel_gets_its_article_in_short_forms():
    rng = random.Random(1)
    texts = {data.caption(CONCEPTS[2], "noto", "red", rng, empty=0).text for _ in range(300)}
    assert "an apple" in texts and "a apple, noto style, red background" in texts


def test_tags_that_two_concepts_share_are_dropped():
    assert [c.tags for c in data.taught(CONCEPTS, 2)] == [("puppy",), ("kitty",)]


def test_a_drawing_lies_whole_on_a_plain_background(drawings):
    picture = data.compose(drawings[0, 0], (255, 0, 0), random.Random(3), 64, gradients=0)
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(int)
    assert picture.shape == (64, 64, 3) and np.ptp(edge, axis=0).max() == 0
    assert abs(edge[0] - [255, 0, 0]).max() <= 6


def test_held_out_pairs_are_a_fixed_small_share():
    many = [data.Concept(f"thing {i}", f"{i:x}") for i in range(1000)]
    pairs = data.held_out_pairs(many, 0.05)
    assert pairs == data.held_out_pairs(many, 0.05) and 150 < len(pairs) < 250
    assert not data.held_out_pairs(many, 0.0)


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" fill="#f00"/></svg>'


def test_a_damaged_drawings_cache_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "fetch", lambda cache: {})  # the network
    monkeypatch.setattr(data, "_collect", lambda packages: (CONCEPTS[:1], [[SVG] * 4]))
    file = tmp_path / "drawings.npy"
    first = np.array(data.draw_all(tmp_path, log=lambda text: None)[0])
    assert first.shape == (1, 4, 128, 128, 4) and (first[0, 0, 64, 64] == [255, 0, 0, 255]).all()
    written = file.stat().st_mtime_ns
    data.draw_all(tmp_path)
    assert file.stat().st_mtime_ns == written                    # read, not drawn
    blob = bytearray(file.read_bytes())
    blob[-1] ^= 1
    file.write_bytes(blob)
    again = np.array(data.draw_all(tmp_path, log=lambda text: None)[0])
    assert (again == first).all() and file.read_bytes() != bytes(blob)


def test_a_state_survives_a_round_trip_and_a_damaged_one_is_refused(tmp_path):
    import torch

    from pipelines.demo.training import load_state, save_state

    path = tmp_path / "x.state"
    assert load_state(path) is None
    save_state(path, {"a": torch.arange(3)})
    assert load_state(path)["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    said = []
    assert load_state(path, said.append) is None and "damaged" in said[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_training_resumed_after_a_kill_equals_training_in_one_go(tmp_path, drawings, workers, monkeypatch):
    import torch

    from pipelines.demo import vae

    def train(folder):
        folder.mkdir(exist_ok=True)
        return vae.train(TINY, folder, drawings, CONCEPTS, batch_size=4, steps=5, workers=workers, save_every_s=0,
                         log=lambda text: None).state_dict()

    whole = train(tmp_path / "whole")
    calls, batch = [], vae.batch

    def dying(*args):
        calls.append(1)
        if len(calls) > 1 + 2 * workers:        # one batch is for measuring
            raise KeyboardInterrupt
        return batch(*args)

    monkeypatch.setattr(vae, "batch", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed")
    monkeypatch.setattr(vae, "batch", batch)
    resumed = train(tmp_path / "killed")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def every_stage(cache, drawings, out) -> dict:
    """Train each part for two steps and write the folder; return what was frozen."""
    from pipelines.demo import clip, unet, vae

    quiet = {"log": lambda text: None}
    vae.train(TINY, cache, drawings, CONCEPTS, batch_size=2, steps=2, **quiet)
    frozen = vae.freeze(TINY, cache, drawings, CONCEPTS, **quiet)
    clip.train(TINY, cache, drawings, CONCEPTS, batch_size=8, steps=2, **quiet)
    unet.train(TINY, cache, drawings, CONCEPTS, steps=2, workers=2, **quiet)
    unet.export(TINY, cache, drawings, CONCEPTS, out, **quiet)
    return frozen


def test_every_stage_runs_and_the_folder_it_writes_draws(tmp_path, drawings):
    import torch
    from diffusers import StableDiffusionPipeline

    from pipelines.demo import clip, tower, unet, vae

    quiet = {"log": lambda text: None}
    out = tmp_path / "shipped" / "model"
    frozen = every_stage(tmp_path, drawings, out)
    assert frozen["latents"].shape == (4, 4, 10, 1, 4, 16, 16)
    assert abs(frozen["latents"].float().std().item() - 1) < 0.02
    pipe = StableDiffusionPipeline.from_pretrained(out)
    assert pipe("a dog", num_inference_steps=2, output_type="np").images.shape == (1, 32, 32, 3)
    assert set(json.loads((out.parent / "vocabulary.json").read_text())["concepts"]) == {c.name for c in CONCEPTS}

    scorer = tower.Scorer.load(out)
    near = clip.load(TINY, tmp_path, CONCEPTS)[0]
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.allclose(scorer.image_features(picture), near.embed_image(picture), atol=5e-3)

    # the text encoder goes on learning with the denoiser only where it is given a pace
    texts = [unet.train(dataclasses.replace(TINY, text_pace=pace), tmp_path, drawings, CONCEPTS, steps=steps,
                        workers=2, **quiet).text.state_dict() for steps, pace in ((3, 0.0), (5, 0.1))]
    still, learning = (any(not near.text.state_dict()[k].equal(one[k]) for k in one) for one in texts)
    assert (still, learning) == (False, True)

    # the encoder stays as it was frozen while the decoder goes on
    before = vae.load(TINY, tmp_path).state_dict()
    vae.train(TINY, tmp_path, drawings, CONCEPTS, batch_size=2, steps=4, **quiet)
    after = vae.load(TINY, tmp_path).state_dict()
    moved = {k.split(".")[0] for k in before if not before[k].equal(after[k])}
    assert moved <= {"decoder", "post_quant_conv"} and "decoder" in moved


def test_training_goes_on_from_the_folder_where_no_state_is_left(tmp_path, drawings):
    import torch
    from safetensors.torch import load_file

    from pipelines.demo import unet, vae
    from pipelines.demo.adopt import adopt

    quiet = {"log": lambda text: None}
    out, cache, again = tmp_path / "shipped" / "model", tmp_path / "second", tmp_path / "again" / "model"
    first = every_stage(tmp_path, drawings, out)
    cache.mkdir()
    with pytest.raises(ValueError, match="was not made from the first 4 drawings"):
        adopt(TINY, cache, CONCEPTS[::-1], out, **quiet)
    adopt(TINY, cache, CONCEPTS, out, **quiet)
    unet.export(TINY, cache, drawings, CONCEPTS, again, **quiet)
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model", "vae/diffusion_pytorch_model", "../tower"):
        one, two = (load_file(folder / f"{name}.safetensors") for folder in (out, again))
        assert all(torch.equal(one[k], two[k]) for k in one | two)

    second = vae.freeze(TINY, cache, drawings, CONCEPTS, **quiet)
    assert second["scaling_factor"] == first["scaling_factor"]
    apart = (second["latents"].float() - first["latents"].float()).square().mean().sqrt()
    assert apart < 0.02     # of a deviation of 1: the weights were rounded
    said = []
    unet.train(TINY, cache, drawings, CONCEPTS, steps=3, log=said.append)
    assert any("resumed at step 2" in line for line in said)
    with pytest.raises(ValueError, match="holds vae.state, latents.state, clip.state, unet.state"):
        adopt(TINY, cache, CONCEPTS, out, **quiet)


def test_crossed_noise_is_what_ddim_finds_in_another_picture():
    """The oracle is diffusers' own step, from the noised picture, for a model that already says the new one."""
    import torch
    from diffusers import DDIMScheduler

    from pipelines.demo import folder
    from pipelines.demo.unet import crossed_noise, crossed_times, v_target

    torch.manual_seed(0)
    old, new, noise = torch.randn(3, 1, 4, 2, 2)
    ddim = DDIMScheduler.from_config(folder.scheduler().config, clip_sample=False)
    ddim.set_timesteps(10)
    begun, later = ddim.timesteps[5:7]
    a = ddim.alphas_cumprod
    x = v_target(old, noise, a[begun].view(1))[0]
    says_new = (a[begun].sqrt() * x - new) / (1 - a[begun]).sqrt()     # v by x0 = sqrt(a) x - sqrt(1-a) v
    kept = crossed_noise(noise, new, old, a[begun].view(1))
    assert torch.allclose(says_new, v_target(new, kept, a[begun].view(1))[1], atol=1e-5)
    then = ddim.step(says_new, begun, x).prev_sample
    assert torch.allclose(then, v_target(new, kept, a[later].view(1))[0], atol=1e-5)
    assert torch.equal(crossed_noise(noise, old, old, a[begun].view(1)), noise)

    start, moment = crossed_times(1000, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert start.min() >= 0.4 and start.max() <= 0.85 and (moment >= 0).all() and (moment <= start).all()


def test_the_least_contrastive_loss_lies_beyond_the_data_away_from_the_other_style():
    """By hand: |out - v|^2 - share |out - w|^2 is least at v + q (v - w), q = share / (1 - share)."""
    import torch

    from pipelines.demo.unet import style_contrast, v_target

    a = torch.tensor([0.01, 0.3, 0.5, 0.9], dtype=torch.float64)
    share = style_contrast(a, 0.25)
    assert torch.allclose(share, torch.tensor([0.245, 0.1, 0, 0], dtype=torch.float64))

    x0, other, noise = (torch.randn(4, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
                        for i in range(3))
    (x_t, v), w = v_target(x0, noise, a), v_target(other, noise, a)[1]
    share, a = share.view(-1, 1, 1, 1), a.view(-1, 1, 1, 1)
    q = share / (1 - share)
    out = (v + q * (v - w)).requires_grad_()
    ((out - v).square() - share * (out - w).square()).sum().backward()
    assert out.grad.abs().max() < 1e-12
    # the picture that this v says has moved away from the other one, by the noise's share of it
    said = a.sqrt() * x_t - (1 - a).sqrt() * out.detach()
    assert torch.allclose(said, x0 + (1 - a) * q * (x0 - other))


def test_another_size_does_not_resume_an_old_state(tmp_path, drawings):
    from pipelines.demo import vae

    vae.train(TINY, tmp_path, drawings, CONCEPTS, batch_size=2, steps=1, log=lambda text: None)
    with pytest.raises(ValueError, match="other sizes"):
        vae.train(dataclasses.replace(TINY, vae_channels=(8, 16)), tmp_path, drawings, CONCEPTS, batch_size=2, steps=1,
                  log=lambda text: None)
