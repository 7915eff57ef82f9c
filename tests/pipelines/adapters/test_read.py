"""Files of every kind: what is read equals sums by hand, and what is for another model is refused by name."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.adapters import layer_names, write
from pipelines.adapters.apply import applied
from pipelines.adapters.delta import change
from pipelines.adapters.read import read
from pipelines.errors import ModelError
from pipelines.families import FAMILIES
from tests.pipelines.adapters.made import Kinds, by_hand, parts_for, weights

FAMILY = FAMILIES["sd15"]
ABOUT = write.About("ink")
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"  # 64 x 64
STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture
def ink(sd_pipe, tmp_path):
    return write.write_kohya(tmp_path / "ink.safetensors", parts_for(sd_pipe), sd_pipe, FAMILY, ABOUT)


def saved(path, tensors, metadata=None):
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def under_other_names(parts, spell):
    """Tensors of a file in which layer P's are called spell(P) + (down, up)."""
    tensors = {}
    for path, part in parts.items():
        down, up = spell(path)
        tensors[down], tensors[up] = part.down, part.up
    return tensors


def old_processor(path):
    component, inner = path.split(".", 1)
    if ".attn" in inner:
        layer, _, projection = inner.removesuffix(".0").rpartition(".")
        return tuple(f"{component}.{layer}.processor.{projection}_lora.{side}.weight" for side in ("down", "up"))
    if component != "unet":
        return tuple(f"{component}.text_model.{inner}.lora_linear_layer.{side}.weight" for side in ("down", "up"))
    return tuple(f"{path}.lora.{side}.weight" for side in ("down", "up"))


SPELLINGS = {
    "kohya by diffusers path": lambda path: tuple(
        f"{path.replace('unet.', 'lora_unet_').replace('text_encoder.', 'lora_te1_text_model_').replace('.', '_')}"
        f".lora_{side}.weight" for side in ("down", "up")),
    "kohya without text_model": lambda path: tuple(
        f"{path.replace('unet.', 'lora_unet_').replace('text_encoder.', 'lora_te_').replace('.', '_')}"
        f".lora_{side}.weight" for side in ("down", "up")),
    "peft": lambda path: tuple(f"{path}.lora_{side}.weight" for side in "AB"),
    "peft with text_model": lambda path: tuple(
        f"{path.replace('text_encoder.', 'text_encoder.text_model.')}.lora_{side}.weight" for side in "AB"),
    "before peft": old_processor,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_change(sd_pipe, tmp_path, spelling):
    parts = parts_for(sd_pipe)
    path = saved(tmp_path / "ink.safetensors", under_other_names(parts, SPELLINGS[spelling]))
    adapter = read(path, sd_pipe, FAMILY)
    assert adapter.unmatched == () and adapter.parts.keys() == parts.keys()
    for layer, weight in weights(sd_pipe).items():
        if layer in parts:  # no alpha in the file: a scale of 1, where the factors' own alpha is half the rank
            torch.testing.assert_close(change(adapter.parts[layer], weight), 2 * by_hand(parts[layer], weight).float(),
                                       rtol=1e-5, atol=1e-6)


def test_sdxl_files_by_diffusers_block_names_are_read_too(sdxl_folder, tmp_path):
    from tests.pipelines.adapters.made import pipe_of

    pipe = pipe_of(sdxl_folder, "StableDiffusionXLPipeline")
    parts = parts_for(pipe, Kinds(encoders=False))
    path = saved(tmp_path / "ink.safetensors", under_other_names(parts, SPELLINGS["kohya by diffusers path"]))
    assert read(path, pipe, FAMILIES["sdxl"]).parts.keys() == parts.keys()


def test_mixed_ranks_and_alphas_are_kept_layer_by_layer(sd_pipe, tmp_path):
    tensors, expected = {}, {}
    for n, (path, name) in enumerate(list(layer_names.kohya(sd_pipe, FAMILY).items())[5:25]):
        weight = weights(sd_pipe)[path]
        down, up = torch.randn(n + 1, *weight.shape[1:]), torch.randn(len(weight), n + 1, *[1] * (weight.ndim - 2))
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        if n % 3:
            tensors[f"{name}.alpha"] = torch.tensor(n / 2)
        scale = n / 2 / (n + 1) if n % 3 else 1.0
        expected[path] = scale * torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).reshape(weight.shape)
    adapter = read(saved(tmp_path / "ink.safetensors", tensors), sd_pipe, FAMILY)
    assert adapter.ranks == tuple(range(1, 21)) and "ranks 1 to 20" in adapter.line
    for path, delta in expected.items():
        torch.testing.assert_close(change(adapter.parts[path], weights(sd_pipe)[path]), delta, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tensors", "delta"), [
    (lambda a, b, c, d: {"lora_down.weight": a, "lora_up.weight": b}, lambda a, b, c, d: b @ a),
    (lambda a, b, c, d: {"lora_down.weight": a[:, :, None, None], "lora_up.weight": b[:, :, None, None]},
     lambda a, b, c, d: b @ a),
    (lambda a, b, c, d: {"hada_w1_a": b, "hada_w1_b": a, "hada_w2_a": d, "hada_w2_b": c, "alpha": torch.tensor(2.0)},
     lambda a, b, c, d: 0.5 * (b @ a) * (d @ c)),
    (lambda a, b, c, d: {"lokr_w1": a[:, :4], "lokr_w2_a": b[:16], "lokr_w2_b": c[:, :16], "alpha": torch.tensor(2.0)},
     lambda a, b, c, d: 0.5 * torch.kron(a[:, :4], b[:16] @ c[:, :16])),
    (lambda a, b, c, d: {"lokr_w1": a[:, :4], "lokr_w2": b.reshape(16, 16), "alpha": torch.tensor(7e9)},
     lambda a, b, c, d: torch.kron(a[:, :4], b.reshape(16, 16))),
    (lambda a, b, c, d: {"lokr_w1_a": a[:, :2], "lokr_w1_b": a[:2, :8], "lokr_w2": b.reshape(16, 16)[:, :8]},
     lambda a, b, c, d: torch.kron(a[:, :2] @ a[:2, :8], b.reshape(16, 16)[:, :8])),
    (lambda a, b, c, d: {"diff": b @ a}, lambda a, b, c, d: b @ a),
    (lambda a, b, c, d: {"lora_A.weight": a, "lora_B.weight": b, "lora_magnitude_vector": c[0].abs()},
     None),
], ids=["LoRA", "1x1 factors", "LoHa", "LoKr factored", "LoKr whole", "LoKr first factored", "diff", "DoRA"])
def test_every_kind_of_part_gives_its_formulas_change(sd_pipe, tmp_path, tensors, delta):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factors = torch.randn(4, 64), torch.randn(64, 4), torch.randn(4, 64), torch.randn(64, 4)
    path = saved(tmp_path / "ink.safetensors", {f"{STEM}.{role}": value for role, value in tensors(*factors).items()})
    adapter = read(path, sd_pipe, FAMILY)
    weight = weights(sd_pipe)[LAYER]
    if delta is None:
        a, b, c, _ = factors
        expected = torch.nn.functional.normalize(weight + b @ a, dim=1) * c[0].abs()[:, None] - weight
    else:
        expected = delta(*factors)
    torch.testing.assert_close(change(adapter.parts[LAYER], weight), expected, rtol=1e-4, atol=1e-5)
    with applied(sd_pipe, [(adapter, 0.3, 1.0)]):  # beside the weight it must be the same
        x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1))
        shifted = sd_pipe.unet.get_submodule(LAYER.removeprefix("unet."))(x)
    torch.testing.assert_close(shifted, x @ (weight + 0.3 * expected).T, rtol=1e-4, atol=1e-4)


def test_settings_of_peft_in_the_header_give_alpha(sd_pipe, tmp_path):
    tensors = {f"{LAYER}.lora_A.weight": torch.randn(4, 64), f"{LAYER}.lora_B.weight": torch.randn(64, 4)}
    for settings, alpha in (({"unet.lora_alpha": 8}, 8.0), ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 16.0),
                            ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 3}}, 3.0),
                            ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"(a+)+$": 3}}, 8.0),
                            ({"unet.lora_alpha": "many"}, 4.0), ([1], 4.0), ({"text_encoder.lora_alpha": 8}, 4.0)):
        path = saved(tmp_path / "ink.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)})
        assert read(path, sd_pipe, FAMILY).parts[LAYER].alpha == alpha


def test_layers_that_the_model_does_not_have_are_counted_and_listed(sd_pipe, ink):
    tensors = load_file(ink)
    tensors |= {"lora_unet_mid_block_attentions_7_proj_in.lora_down.weight": torch.zeros(4, 64),
                "lora_unet_mid_block_attentions_7_proj_in.lora_up.weight": torch.zeros(64, 4),
                "some_bias": torch.zeros(3), "lora_unet_conv_in.alpha": torch.tensor(1.0)}
    adapter = read(saved(ink, tensors), sd_pipe, FAMILY)
    matched = len(parts_for(sd_pipe))
    assert len(adapter.parts) == matched and adapter.layers == matched + 2
    assert adapter.unmatched == ("lora_unet_conv_in", "lora_unet_mid_block_attentions_7_proj_in", "some_bias")
    assert adapter.line == f"ink: {matched} of {matched + 2} layers matched, rank 4"


def test_an_inpainting_model_takes_what_was_trained_on_four_channels(sd9_folder, sd_pipe, tmp_path):
    from tests.pipelines.adapters.made import pipe_of

    pipe = pipe_of(sd9_folder, "StableDiffusionInpaintPipeline")
    down, up = torch.randn(2, 4, 3, 3), torch.randn(32, 2, 1, 1)
    path = saved(tmp_path / "ink.safetensors", {"lora_unet_conv_in.lora_down.weight": down,
                                                "lora_unet_conv_in.lora_up.weight": up})
    weight = weights(sd_pipe)["unet.conv_in"]
    small = change(read(path, sd_pipe, FAMILY).parts["unet.conv_in"], weight)
    large = change(read(path, pipe, FAMILY).parts["unet.conv_in"], weights(pipe)["unet.conv_in"])
    assert torch.equal(large[:, :4], small) and not large[:, 4:].any()


def test_the_wrong_family_is_refused_by_name(sd_pipe, sdxl_folder, tmp_path):
    from tests.pipelines.adapters.made import pipe_of

    sdxl = pipe_of(sdxl_folder, "StableDiffusionXLPipeline")
    large = write.write_kohya(tmp_path / "large.safetensors", parts_for(sdxl), sdxl, FAMILIES["sdxl"], ABOUT)
    small = write.write_kohya(tmp_path / "small.safetensors", parts_for(sd_pipe), sd_pipe, FAMILY, ABOUT)
    with pytest.raises(ModelError) as fault:
        read(large, sd_pipe, FAMILY)
    assert str(fault.value) == ("large.safetensors is a LoRA for Stable Diffusion XL, "
                                "the model is Stable Diffusion 1.x.")
    with pytest.raises(ModelError, match="small.safetensors is a LoRA for Stable Diffusion 1.x, the model is "
                                         "Stable Diffusion XL"):
        read(small, sdxl, FAMILIES["sdxl"])


@pytest.mark.parametrize(("width", "label"), [(768, None), (1024, "Stable Diffusion 2.x"),
                                              (2048, "Stable Diffusion XL"), (1280, "the Stable Diffusion XL refiner")])
def test_published_sizes_tell_the_family_without_any_metadata(sd_pipe, tmp_path, width, label):
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    path = saved(tmp_path / "ink.safetensors", {f"{stem}.lora_down.weight": torch.zeros(2, width),
                                                f"{stem}.lora_up.weight": torch.zeros(64, 2)})
    with pytest.raises(ModelError) as fault:
        read(path, sd_pipe, FAMILY)
    if label is None:  # the right family, in a size that this small model does not have
        assert "is made for a model of other sizes" in str(fault.value) and "2x768" in str(fault.value)
    else:
        assert f"is a LoRA for {label}, the model is Stable Diffusion 1.x" in str(fault.value)


@pytest.mark.parametrize(("key", "words"), [
    ("lora_unet_double_blocks_0_img_attn_proj", "is a LoRA for FLUX.1"),
    ("transformer.single_transformer_blocks.0.attn.to_q", "is a LoRA for FLUX.1"),
    ("lora_unet_joint_blocks_0_x_block_attn_qkv", "is a LoRA for Stable Diffusion 3"),
    ("diffusion_model.blocks.0.cross_attn.k", "is a LoRA for a transformer model"),
    ("lora_unet_something_else", "0 of 1 layers matched. The model is Stable Diffusion 1.x."),
])
def test_adapters_of_other_architectures_are_refused(sd_pipe, tmp_path, key, words):
    path = saved(tmp_path / "ink.safetensors", {f"{key}.lora_down.weight": torch.zeros(2, 8),
                                                f"{key}.lora_up.weight": torch.zeros(8, 2)})
    with pytest.raises(ModelError, match=words):
        read(path, sd_pipe, FAMILY)
