"""Every family that the library's pipelines run draws what it says it can, through the studio's own road."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import Cancelled, ModelError
from pipelines.events import ImageReady, Notice, StepDone
from pipelines.families import FAMILIES, Facts
from pipelines.generation import decode
from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models.cache import build
from pipelines.models.loading import load
from pipelines.queue.control import Control
from pipelines.requests import TASKS, make
from tests.tiny_families import BUILDERS, SIDE, write_tiny

STOCK = {name: family for name, family in FAMILIES.items() if family.stock}
BASE = dict(prompt="a red cat", sampler="Euler", schedule="Automatic", steps=2, guidance_scale=3.0, width=SIDE,
            height=SIDE, seed=7)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """(family, task) -> (card, components), each made when it is first asked for."""
    made = {}

    def get(name, task="txt2img"):
        options = {"in_channels": 9} if (name, task) == ("kandinsky2", "inpaint") else {}
        key = name, *options
        if key not in made:
            card = read_folder(write_tiny(name, tmp_path_factory.mktemp("families") / name, **options), name)
            made[key] = card, load(card, Placement("cpu", "float32", "float32"))
        return made[key]

    return get


def noise(size=(SIDE, SIDE)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


def half_mask(size):
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def events(loaded, name, task, control=None, images=None, adapters=None, **changes):
    from pipelines.generation import generate

    card, components = loaded(name, task)
    assert task in card.tasks
    images = images or {"picture": noise(), "mask": half_mask((SIDE, SIDE))}
    given = {} if task == "txt2img" else {"image": "picture", "strength": 0.6}
    given |= {"mask": "mask", "mask_blur": 0} if task == "inpaint" else {}
    request = make(TASKS[task], **{**BASE, **given, **changes})
    pipe = build(name, task, components)
    given = {"adapters": adapters} if adapters else {}
    return list(generate.run(request, pipe, FAMILIES[name], images.__getitem__, control, **given))


def pictures(*args, **changes):
    return [event.image for event in events(*args, **changes) if isinstance(event, ImageReady)]


def test_every_family_of_the_library_has_a_tiny_model():
    assert set(STOCK) == set(BUILDERS)


def test_every_automatic_pipeline_is_covered_or_left_out_with_a_reason():
    from diffusers.pipelines import auto_pipeline

    from docs.families import LEFT_OUT, VARIANTS

    def here(cls):
        facts = [Facts(pipeline=cls.__name__, unet={"cross_attention_dim": width}) for width in (768, 1024, 2048)]
        return any(family.matches(one) for family in FAMILIES.values() for one in facts)

    known = {key: cls for key, cls in auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.items()
             if not any(key.endswith(variant) or f"-{variant}-" in key for variant in VARIANTS)}
    assert {key for key, cls in known.items() if not here(cls)} == set(LEFT_OUT) - {"kolors"}  # the library hides it


def test_the_page_of_families_is_as_new_as_their_facts():
    from docs.families import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("name", STOCK)
def test_a_family_says_what_its_pipelines_take(name):
    import diffusers

    family, stock = FAMILIES[name], FAMILIES[name].stock
    for task, cls_name in family.pipelines.items():
        cls = getattr(diffusers, cls_name)
        needed, settings = cls._get_signature_keys(cls)
        taken = set(inspect.signature(cls.__call__).parameters)
        assert set(stock.networks + stock.others) <= {*needed, *settings}
        assert set(needed) - {"image_encoder", "feature_extractor", "safety_checker"} <= set(
            stock.networks + stock.others)
        assert set(stock.settings) <= set(settings) and stock.guidance in taken
        assert not stock.negative or "negative_prompt" in taken
        assert task == "txt2img" or ("strength" in taken) == ("strength" in family.provides(task))
    assert family.core in stock.networks and family.sampler and family.label


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, family in STOCK.items()
                                            for task in family.pipelines])
def test_each_task_of_each_family_draws_by_seed_and_in_batches(loaded, name, task, monkeypatch):
    monkeypatch.setattr(decode, "PREVIEW_EVERY_S", 0)
    made = events(loaded, name, task, batch_size=2)
    first, second = (event.image for event in made if isinstance(event, ImageReady))
    assert first.size == second.size == (SIDE, SIDE)
    assert first.tobytes() != second.tobytes()
    steps = [event for event in made if isinstance(event, StepDone)]
    assert steps[-1].step == steps[-1].steps <= 2
    between = [step.preview for step in steps if step.step < step.steps]
    assert any(between) or task != "txt2img"  # a strength leaves a single step
    alone = pictures(loaded, name, task, seed=8)[0]
    assert alone.tobytes() == second.tobytes()
    if task == "inpaint":
        right = (SIDE // 2, 0, SIDE, SIDE)
        assert first.crop(right).tobytes() == noise().crop(right).tobytes()
        assert first.tobytes() != noise().tobytes()


def test_stop_and_skip_end_a_picture_between_two_steps(loaded):
    from pipelines.generation import generate

    _, components = loaded("flux")
    request = make(TASKS["txt2img"], **{**BASE, "steps": 20, "batch_count": 2})
    control, scheduler = Control(), components["scheduler"]
    seen = []
    for event in generate.run(request, build("flux", "txt2img", components), FAMILIES["flux"], {}.get, control):
        seen.append(event)
        if isinstance(event, StepDone) and event.image == 1:
            control.skip.set()
    assert [event.request.seed for event in seen if isinstance(event, ImageReady)] == [8]
    run = generate.run(request, build("flux", "txt2img", components), FAMILIES["flux"], {}.get, control)
    next(run)
    control.stop.set()
    with pytest.raises(Cancelled):
        list(run)
    assert "step" not in vars(scheduler)  # the shared one was never touched


def test_a_run_that_nobody_reads_any_more_ends_its_thread(loaded):
    import threading

    from pipelines.generation import generate

    _, components = loaded("flux")
    request = make(TASKS["txt2img"], **{**BASE, "steps": 150})
    run = generate.run(request, build("flux", "txt2img", components), FAMILIES["flux"], {}.get)
    next(run)
    run.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("draw")]


def test_what_a_family_does_not_read_is_said(loaded):
    said = [event.text for event in events(loaded, "flux", "txt2img", prompt="(a cat:1.3) <lora:ink:1>",
                                           negative_prompt="a dog") if isinstance(event, Notice)]
    assert any("ink" in text for text in said) and any("weights" in text for text in said)
    assert any("negative prompt" in text for text in said)
    assert not [event for event in events(loaded, "sd3", "txt2img", negative_prompt="a dog")
                if isinstance(event, Notice)]


def test_the_negative_prompt_and_the_guidance_reach_the_model(loaded):
    plain = pictures(loaded, "sd3", "txt2img")[0].tobytes()
    assert plain != pictures(loaded, "sd3", "txt2img", negative_prompt="a dog")[0].tobytes()
    assert plain != pictures(loaded, "sd3", "txt2img", guidance_scale=5.0)[0].tobytes()
    assert pictures(loaded, "qwen_image", "txt2img")[0].tobytes() != pictures(
        loaded, "qwen_image", "txt2img", guidance_scale=6.0)[0].tobytes()


def test_inpainting_gives_back_every_byte_outside_the_mask_at_any_size(loaded):
    source = Image.fromarray(np.random.default_rng(1).integers(0, 256, (75, 101, 4), np.uint8), "RGBA")
    made = pictures(loaded, "flux", "inpaint", images={"picture": source, "mask": half_mask(source.size)})[0]
    right = (51, 0, 101, 75)
    assert made.size == source.size and made.mode == "RGBA"
    assert made.crop(right).tobytes() == source.crop(right).tobytes()


def test_sd3_draws_without_its_largest_text_encoder(tmp_path):
    import json

    from pipelines.generation import generate

    folder = write_tiny("sd3", tmp_path / "sd3")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(
        {**index, "text_encoder_3": [None, None], "tokenizer_3": [None, None]}))
    components = load(read_folder(folder, "sd3"), Placement("cpu", "float32", "float32"))
    assert components["text_encoder_3"] is None
    made = generate.run(make(TASKS["txt2img"], **BASE), build("sd3", "txt2img", components), FAMILIES["sd3"], {}.get)
    assert any(isinstance(event, ImageReady) for event in made)


def test_code_and_pickles_of_a_folder_are_never_run(tmp_path):
    import json

    folder = write_tiny("z_image", tmp_path / "evil")
    config = folder / "text_encoder" / "config.json"
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "text_encoder" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "evil",
                                  "auto_map": {"AutoConfig": "code.Evil", "AutoModel": "code.Evil"}}))
    (folder / "model_index.json").write_text(json.dumps({**index, "text_encoder": ["transformers", "AutoModel"]}))
    with pytest.raises(ModelError, match="evil cannot be loaded"):
        load(read_folder(folder, "evil"), Placement("cpu", "float32", "float32"))
    assert not (tmp_path / "ran").exists()
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="pickle"):
        read_folder(folder, "evil")


# LoRAs

def shelf_of(folder):
    """What attaches the files in a folder by the names in a prompt."""
    from contextlib import contextmanager

    from pipelines.adapters.apply import applied
    from pipelines.adapters.read import read

    @contextmanager
    def attached(pipe, family, uses):
        files = [(read(folder / f"{use.name}.safetensors", pipe, family), use.unet_weight, use.te_weight)
                 for use in uses]
        with applied(pipe, files) as report:
            yield report.lines

    return attached


def save(path, tensors, **metadata):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file({name: torch.randn(shape) for name, shape in tensors.items()}, path, metadata=metadata or None)


def of_layers(components, core):
    """The tensors of a LoRA as diffusers writes it, for every linear layer of what denoises."""
    import torch

    layers = {path: module for path, module in components[core].named_modules() if isinstance(module, torch.nn.Linear)}
    return {f"{core}.{path}.lora_{side}.weight": shape for path, layer in layers.items()
            for side, shape in (("A", (2, layer.in_features)), ("B", (layer.out_features, 2)))}


@pytest.mark.parametrize("name", STOCK)
def test_a_lora_changes_the_picture_of_each_family_and_leaves_the_model_as_it_was(loaded, name, tmp_path):
    task = next(iter(STOCK[name].pipelines))
    tensors = of_layers(loaded(name, task)[1], STOCK[name].core)
    save(tmp_path / "ink.safetensors", tensors)
    before = pictures(loaded, name, task)[0]
    made = events(loaded, name, task, prompt="a red cat <lora:ink:1>", adapters=shelf_of(tmp_path))
    lines = [event.text for event in made if isinstance(event, Notice)]
    assert any(f"ink: {len(tensors) // 2} of {len(tensors) // 2} layers matched" in line for line in lines)
    assert next(event.image for event in made if isinstance(event, ImageReady)).tobytes() != before.tobytes()
    assert pictures(loaded, name, task)[0].tobytes() == before.tobytes()


def test_a_file_in_the_originals_names_does_what_the_librarys_own_loader_does(loaded, tmp_path):
    names = {"double_blocks_0_img_attn_qkv": (32, 96), "double_blocks_0_img_mlp_0": (32, 128),
             "single_blocks_0_linear2": (160, 32)}
    save(tmp_path / "ink.safetensors", {
        f"lora_unet_{layer}.lora_{side}.weight": shape for layer, (inner, outer) in names.items()
        for side, shape in (("down", (2, inner)), ("up", (outer, 2)))})
    made = events(loaded, "flux", "txt2img", prompt="a red cat <lora:ink:1>", adapters=shelf_of(tmp_path))
    assert any("5 of 5 layers matched" in event.text for event in made if isinstance(event, Notice))
    ours = next(event.image for event in made if isinstance(event, ImageReady))
    pipe = build("flux", "txt2img", loaded("flux")[1])
    pipe.load_lora_weights(tmp_path, weight_name="ink.safetensors")
    try:
        run = list(_run(pipe, "flux"))
    finally:
        pipe.unload_lora_weights()
    theirs = next(event.image for event in run if isinstance(event, ImageReady))
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 2
    assert ours.tobytes() != pictures(loaded, "flux", "txt2img")[0].tobytes()


def test_magnitudes_in_the_originals_names_go_where_its_joined_layers_go(loaded, tmp_path):
    """DoRA of FLUX's q, k and v in one, beside a layer without: against the joined weight changed by hand."""
    import torch
    from safetensors.torch import load_file, save_file

    from pipelines.adapters.delta import change
    from pipelines.adapters.read import read

    pipe, file = build("flux", "txt2img", loaded("flux")[1]), tmp_path / "ink.safetensors"
    joined, alone = "lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_double_blocks_0_img_mlp_0"
    save(file, {f"{joined}.lora_down.weight": (2, 32), f"{joined}.lora_up.weight": (96, 2),
                f"{joined}.dora_scale": (96, 1), f"{alone}.lora_down.weight": (2, 32),
                f"{alone}.lora_up.weight": (128, 2)})
    held = load_file(file)
    save_file({**held, f"{joined}.alpha": torch.tensor(0.5)}, file)
    adapter = read(file, pipe, FAMILIES["flux"])
    block = "transformer.transformer_blocks.0."
    assert adapter.unmatched == () and adapter.parts[f"{block}ff.net.0.proj"].dora_scale is None
    attention = pipe.transformer.transformer_blocks[0].attn
    weight = torch.cat([getattr(attention, f"to_{part}").weight for part in "qkv"])
    whole = weight + 0.25 * held[f"{joined}.lora_up.weight"] @ held[f"{joined}.lora_down.weight"]
    expected = whole * held[f"{joined}.dora_scale"] / whole.norm(dim=1, keepdim=True) - weight
    ours = torch.cat([change(adapter.parts[f"{block}attn.to_{part}"], getattr(attention, f"to_{part}").weight)
                      for part in "qkv"])
    assert torch.allclose(ours, expected, atol=1e-5)
    save_file({**held, f"{joined}.dora_scale": torch.ones(1, 32)}, file)
    with pytest.raises(ModelError, match="magnitudes .DoRA. of lora_unet_double_blocks_0_img_attn_qkv are 1x32"):
        read(file, pipe, FAMILIES["flux"])


def _run(pipe, name):
    from pipelines.generation import generate

    return generate.run(make(TASKS["txt2img"], **BASE), pipe, FAMILIES[name], {}.get)


@pytest.mark.parametrize(("model", "layer", "words"), [
    ("flux", "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
     "ink.safetensors is a LoRA for Stable Diffusion 1.x, the model is FLUX.1"),
    ("sd3", "lora_unet_double_blocks_0_img_attn_qkv",
     "ink.safetensors is a LoRA for FLUX.1, the model is Stable Diffusion 3"),
    ("z_image", "transformer.blocks.7.to_q", "0 of 1 layers matched. The model is Z-Image")])
def test_a_lora_of_another_family_is_refused_by_name(loaded, tmp_path, model, layer, words):
    save(tmp_path / "ink.safetensors", {f"{layer}.lora_down.weight": (2, 768), f"{layer}.lora_up.weight": (96, 2)})
    with pytest.raises(ModelError, match=words):
        events(loaded, model, "txt2img", prompt="a cat <lora:ink:1>", adapters=shelf_of(tmp_path))


@pytest.mark.parametrize("name", STOCK)
def test_what_is_previewed_is_what_the_autoencoder_will_be_given(loaded, name, monkeypatch):
    import functools

    import torch

    from pipelines.generation import generate
    from pipelines.generation.fitted_previews import unpacked

    task = next(iter(STOCK[name].pipelines))
    card, components = loaded(name, task)
    pipe = build(name, task, components)
    vae, scheduler = getattr(pipe, "vae", None) or pipe.movq, type(pipe.scheduler)
    after, given = [], []
    plain_step, plain_decode = scheduler.step, vae.decode

    @functools.wraps(plain_step)
    def step(*args, **kwargs):
        result = plain_step(*args, **kwargs)
        after.append(result[0])
        return result

    def decode(latents, *args, **kwargs):
        given.append(latents)
        return plain_decode(latents, *args, **kwargs)

    monkeypatch.setattr(scheduler, "step", step)
    monkeypatch.setattr(vae, "decode", decode)
    picture = {"image": "picture", "strength": 0.6} if task != "txt2img" else {}
    size = SIDE, 2 * SIDE  # tokens of a square could be turned over
    request = make(TASKS[task], **{**BASE, **picture, "width": size[0], "height": size[1]})
    list(generate.run(request, pipe, FAMILIES[name], {"picture": noise(size)}.__getitem__))
    wanted = given[-1][:, :, 0] if given[-1].ndim == 5 else given[-1]
    assert torch.allclose(unpacked(STOCK[name].stock, vae, after[-1], size), wanted[0].float(), atol=1e-5)


def test_the_fitted_map_shows_a_picture_in_its_colours():
    """On a model that was trained: the embedded one's own autoencoder."""
    import torch
    from diffusers import AutoencoderKL

    from pipelines.generation.fitted_previews import fitted
    from pipelines.library.checkpoints import EMBEDDED

    vae = AutoencoderKL.from_pretrained(EMBEDDED / "vae")
    weight, bias = fitted(vae)
    picture = torch.zeros(1, 3, 128, 128) - 0.6
    picture[:, 0, :, :64] = 0.8  # red on the left, blue below
    picture[:, 2, 64:] = 0.7
    with torch.inference_mode():
        latents = vae.encode(picture).latent_dist.mode()[0]
    seen = torch.einsum("chw,cr->rhw", latents, weight) + bias[:, None, None]
    wanted = torch.nn.functional.adaptive_avg_pool2d(picture, seen.shape[-2:])[0]
    assert torch.corrcoef(torch.stack([seen.flatten(), wanted.flatten()]))[0, 1] > 0.8
