"""Families are told apart by what a checkpoint contains."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipelines import families
from pipelines.errors import ModelError
from pipelines.families import FAMILIES, Facts, recognise

UNET = "model.diffusion_model."


def folder(pipeline: str, text_width: int, in_channels: int = 4) -> Facts:
    return Facts(pipeline=pipeline, unet={"cross_attention_dim": text_width, "in_channels": in_channels})


def file(block: int, text_width: int, in_channels: int = 4) -> Facts:
    return Facts(shapes={
        UNET + "input_blocks.0.0.weight": (320, in_channels, 3, 3),
        f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight": (640, text_width),
        "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3)})


@pytest.mark.parametrize(("facts", "name"), [
    (folder("StableDiffusionPipeline", 768), "sd15"),
    (folder("StableDiffusionPipeline", 256), "sd15"),
    (folder("StableDiffusionInpaintPipeline", 768, 9), "sd15"),
    (folder("StableDiffusionPipeline", 1024), "sd2"),
    (folder("StableDiffusionXLImg2ImgPipeline", 1280), "sdxl_refiner"),
    (folder("StableDiffusionXLPipeline", 2048), "sdxl"),
    (folder("StableDiffusionXLInpaintPipeline", 2048, 9), "sdxl"),
    (Facts(pipeline="FluxPipeline", unet={"in_channels": 64}), "flux"),
    (Facts(pipeline="StableDiffusion3InpaintPipeline"), "sd3"),
    (file(1, 768), "sd15"), (file(1, 768, 9), "sd15"), (file(1, 1024), "sd2"), (file(4, 2048), "sdxl"),
    (file(4, 1280), "sdxl_refiner"),
])
def test_the_family_is_told_by_what_the_checkpoint_contains(facts, name):
    assert recognise(facts).name == name


@pytest.mark.parametrize(("facts", "words"), [
    (folder("HunyuanVideoPipeline", 768), "HunyuanVideoPipeline"),
    (file(4, 1536), "first_stage_model, model"),
    (Facts(shapes={"lora_unet_down.weight": (4, 320)}), "1 tensors under lora_unet_down"),
    (folder("StableDiffusionPipeline", 768, 8), "8 input channels"),  # instruct-pix2pix
])
def test_an_unknown_kind_is_refused_with_what_was_seen(facts, words):
    with pytest.raises(ModelError, match=words):
        recognise(facts)


@pytest.mark.parametrize("family", [family for family in FAMILIES.values() if family.stock is None],
                         ids=lambda family: family.name)
def test_every_family_names_real_pipelines_and_their_parts(family):
    import diffusers

    for task in ("txt2img", "img2img", "inpaint"):
        cls = getattr(diffusers, family.pipelines[task])
        parts = set(cls._get_signature_keys(cls)[0])
        assert {name for pair in family.text_encoders for name in pair} <= parts
        assert family.pooled is None or family.pooled in parts
    assert [len(row) for row in family.latent_rgb] == [3] * 4


def test_no_family_imports_another():
    folder_of_families = Path(families.__file__).parent
    for path in folder_of_families.glob("*.py"):
        if path.stem in ("__init__", "family"):
            continue
        imported = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not {name for name in imported if name} & set(FAMILIES), path.name


def test_a_latent_consistency_model_is_of_the_first_family_and_likes_few_steps():
    facts = folder("LatentConsistencyModelPipeline", 768)
    assert recognise(facts).name == "sd15"
    assert recognise(facts).prefers(facts)["sampler"] == "LCM"
    assert recognise(folder("StableDiffusionPipeline", 768)).prefers(folder("StableDiffusionPipeline", 768)) == {}


def test_distilled_folders_like_few_steps_and_their_bases_many():
    def likes(name, unet=None, scheduler=None, **index):
        return FAMILIES[name].prefers(Facts(FAMILIES[name].pipelines["txt2img"], index, unet or {}, scheduler or {}))

    assert likes("flux2_klein", is_distilled=True) == likes("krea2", is_distilled=False) == {}
    assert likes("flux2_klein", is_distilled=False) == {"steps": 50, "guidance_scale": 4.0}
    assert likes("krea2", is_distilled=True) == {"steps": 8, "guidance_scale": 0.0}
    assert likes("z_image", scheduler={"shift": 3.0}) == likes("z_image", scheduler={"shift": "6"}) == {}
    assert likes("z_image", scheduler={"shift": 6.0}) == {"steps": 50, "guidance_scale": 4.0}
    assert likes("sd3", unet={"num_layers": 24}) == {}
    assert likes("sd3", unet={"num_layers": 24, "qk_norm": "rms_norm"}) == {"steps": 40, "guidance_scale": 4.5}
    large = likes("sd3", unet={"num_layers": 38, "qk_norm": "rms_norm"})
    assert (large["steps"], large["guidance_scale"]) == (28, 3.5)
    assert "if this is the turbo, take 4 steps and guidance 0" in large["note"]  # nothing in its folder tells it


def test_the_base_of_z_image_is_told_from_its_turbo_by_the_folder_alone(tmp_path):
    import json

    from pipelines.library.read.card import read_configs
    from tests.tiny_families import write_tiny

    folder = write_tiny("z_image", tmp_path / "model")
    card = read_configs(folder, "turbo", "folder")
    assert (card.steps, card.guidance_scale) == (8, 0)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "shift": 6.0}))
    card = read_configs(folder, "base", "folder")
    assert (card.steps, card.guidance_scale) == (50, 4)


# (steps, guidance) where a published model asks for others than its pipeline's defaults: by the cards on the hub of
# THUDM's CogView3-Plus-3B and CogView4-6B, black-forest-labs' FLUX.2-klein-4B and Alpha-VLLM's Lumina-Image-2.0, and by
# the examples in the library's own pipelines of Kandinsky 2.2, FLUX.1 Kontext and Z-Image. The refiner follows SDXL.
ASKED_FOR = {"kandinsky2": (50, 4.0), "cogview3": (50, 7.0), "cogview4": (50, 3.5), "flux2_klein": (4, 1.0),
             "flux_kontext": (28, 2.5), "lumina2": (50, 4.0), "sdxl_refiner": (25, 5.0), "z_image": (8, 0.0)}


@pytest.mark.parametrize("family", [family for family in FAMILIES.values() if family.stock],
                         ids=lambda family: family.name)
def test_the_defaults_of_a_family_are_those_of_its_pipeline_or_of_its_models_card(family):
    import inspect

    import diffusers

    pipeline = getattr(diffusers, next(iter(family.pipelines.values())))
    known = inspect.signature(pipeline.__call__).parameters
    own = known["num_inference_steps"].default, known[family.stock.guidance].default
    assert (family.steps, family.guidance_scale) == ASKED_FOR.get(family.name, own)
    assert family.name not in ASKED_FOR or ASKED_FOR[family.name] != own


def test_a_family_answers_for_itself_so_that_nobody_else_asks_what_runs_it():
    ours, flux, sd3 = FAMILIES["sdxl"], FAMILIES["flux"], FAMILIES["sd3"]
    assert ours.engine == "unet" and flux.engine == sd3.engine == "diffusers_pipeline"
    assert ours.networks == ("unet", "vae", "text_encoder", "text_encoder_2")
    assert set(ours.networks) < set(ours.components) and "scheduler" in ours.components
    assert flux.core in flux.networks and set(flux.networks) < set(flux.components)
    assert "text_encoder_3" in sd3.optional and not ours.optional
    assert [one.guided_rows for one in (ours, flux, sd3)] == [2, 1, 2]
    assert ours.inpainting_channels == 9 and flux.inpainting_channels is None
    for says in ("follows_prediction", "batches", "vae_has_own_dtype", "draws_tiles", "counts_tokens",
                 "reads_embeddings"):
        assert getattr(ours, says) and not getattr(flux, says)
    assert flux.is_wide and flux.layers_tell_loras and not (ours.is_wide or ours.layers_tell_loras)


def test_only_families_and_backends_look_at_how_the_library_runs_one():
    pipelines = Path(families.__file__).parents[1]
    asking = [str(path.relative_to(pipelines)) for path in sorted(pipelines.rglob("*.py"))
              if ".stock" in path.read_text(encoding="utf-8") and not {"families", "backends"} & set(path.parts)]
    assert asking == []
