"""Files as other programs write them: every number of theirs takes effect as it is meant, and what does not is said."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from pipelines.adapters import layer_names
from pipelines.adapters.apply import applied, merged
from pipelines.adapters.delta import Kronecker
from pipelines.adapters.merge import merge
from pipelines.adapters.read import read
from pipelines.errors import ModelError
from pipelines.families import FAMILIES
from tests.pipelines.adapters.made import picture, pipe_of

ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn1"
ENCODERS = ("text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def pipes(sd_folder, sdxl_folder):
    return {"sd15": pipe_of(sd_folder), "sdxl": pipe_of(sdxl_folder, "StableDiffusionXLPipeline")}


@pytest.fixture
def pipe(pipes):
    return pipes["sd15"]


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator) * 0.3


def state(pipe):
    return {f"{part}.{key}": tensor.detach().clone() for part in ("unet", *ENCODERS)
            if getattr(pipe, part, None) is not None for key, tensor in getattr(pipe, part).state_dict().items()}


def saved(path, tensors, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path, metadata)
    return path


def kohya(layer):
    return f"lora_unet_{layer.replace('.', '_')}"


def check(path, pipe, changes, family="sd15"):
    """Read a file, and compare all weights with those to which `changes` (key of the state -> tensor) were added."""
    before = state(pipe)
    adapter = read(path, pipe, FAMILIES[family])
    with merged(pipe, [(adapter, 0.5, 0.5)]):
        after = state(pipe)
    for key, tensor in before.items():
        wanted = tensor + 0.5 * changes[key].reshape(tensor.shape) if key in changes else tensor
        torch.testing.assert_close(after[key], wanted, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
    return adapter


def test_changes_of_norms_and_biases_take_effect_in_the_weights_and_beside_them(pipe, tmp_path, draw):
    before, tensors, changes = state(pipe), {}, {}
    for layer in (ATTENTION.replace("attn1", "norm1"), "mid_block.attentions.0.norm", "mid_block.resnets.0.norm1",
                  "conv_norm_out"):
        for kind, role in (("weight", "w_norm"), ("bias", "b_norm")):
            key = f"unet.{layer}.{kind}"
            tensors[f"{kohya(layer)}.{role}"] = changes[key] = draw(*before[key].shape)
    for layer in (f"{ATTENTION}.to_out.0", "mid_block.resnets.0.conv1", "conv_in"):
        for kind, role in (("weight", "diff"), ("bias", "diff_b")):
            key = f"unet.{layer}.{kind}"
            tensors[f"{kohya(layer)}.{role}"] = changes[key] = draw(*before[key].shape)
    key = "text_encoder.final_layer_norm.weight"
    own = key if key in before else key.replace("text_encoder.", "text_encoder.text_model.")
    tensors["text_encoders.clip_l.transformer.text_model.final_layer_norm.diff"] = changes[own] = draw(
        *before[own].shape)
    tensors["diffusion_model.out.2.diff_b"] = changes["unet.conv_out.bias"] = draw(4)
    adapter = check(saved(tmp_path / "ink.safetensors", tensors), pipe, changes)
    assert (adapter.matched, adapter.layers, adapter.notes) == (9, 9, ())
    plain = picture(pipe)
    with merged(pipe, [(adapter, 0.5, 0.5)]):
        inside = picture(pipe)
    with applied(pipe, [(adapter, 0.5, 0.5)]):
        attached = picture(pipe)
    assert (inside - plain).abs().max() > 0.05
    torch.testing.assert_close(attached, inside, rtol=1e-4, atol=1e-4 * inside.abs().max().item())
    assert torch.equal(picture(pipe), plain)


def test_the_bias_of_the_second_factor_is_scaled_as_the_factor_is(pipe, tmp_path, draw):
    down, up, bias = draw(4, 64), draw(64, 4), draw(64)
    layer = f"unet.{ATTENTION}.to_out.0"
    path = saved(tmp_path / "ink.safetensors", {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up,
                                                f"{layer}.lora_B.bias": bias, f"{layer}.alpha": torch.tensor(2.0)})
    check(path, pipe, {f"{layer}.weight": 0.5 * up @ down, f"{layer}.bias": 0.5 * bias})


def test_a_bias_where_the_model_has_none_acts_and_is_not_lost_in_a_new_checkpoint(pipe, tmp_path, draw):
    layer, bias = f"{ATTENTION}.to_q", draw(64)
    adapter = read(saved(tmp_path / "ink.safetensors", {f"{kohya(layer)}.diff_b": bias}), pipe, FAMILIES["sd15"])
    module, x = pipe.unet.get_submodule(layer), draw(2, 5, 64)
    plain = module(x)
    for way in (applied, merged):
        with way(pipe, [(adapter, 0.5, 1.0)]):
            torch.testing.assert_close(module(x), plain + 0.5 * bias)
        assert module.bias is None and torch.equal(module(x), plain)
    with pytest.raises(ModelError, match="no checkpoint can hold it"):
        merge(tmp_path / "model", pipe, FAMILIES["sd15"], [(adapter, 1.0, 1.0)])


def inner_of_encoder(layer):
    inner = layer.split(".", 1)[1]
    return inner if inner.startswith(("text_model.", "text_projection")) else f"text_model.{inner}"


def omi(layer, numbers):
    part, inner = layer.split(".", 1)
    clip = {"text_encoder": "clip_l.", "text_encoder_2": "clip_g."}
    return f"unet.{layer_names.numbered(inner, numbers)}" if part == "unet" else clip[part] + inner_of_encoder(layer)


def comfy(layer, numbers):
    part, inner = layer.split(".", 1)
    clip = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    return (f"diffusion_model.{layer_names.numbered(inner, numbers)}" if part == "unet"
            else f"text_encoders.{clip[part]}.transformer.{inner_of_encoder(layer)}")


def lycoris(layer, numbers):
    inner = layer.split(".", 1)[1] if layer.startswith("unet.") else inner_of_encoder(layer)
    return f"lycoris_{inner.replace('.', '_')}"


def half_flat(layer, numbers):
    """As a conversion leaves it that knows the kohya prefix and not all of the layer."""
    return layer.replace("unet.", "lora_unet_", 1).replace(".attn", "_attn")


CASES = {"OneTrainer": ("sd15", omi, ("unet", "text_encoder")), "OneTrainer XL": ("sdxl", omi, ("unet", *ENCODERS)),
         "ComfyUI": ("sd15", comfy, ("unet", "text_encoder")), "ComfyUI XL": ("sdxl", comfy, ("unet", *ENCODERS)),
         "LyCORIS": ("sd15", lycoris, ("unet", "text_encoder")), "dots inside": ("sd15", half_flat, ("unet",)),
         "peft, first encoder": ("sdxl", lambda layer, _: f"base_model.model.{inner_of_encoder(layer)}", ENCODERS[:1]),
         "peft, second encoder": ("sdxl", lambda layer, _: f"base_model.model.{inner_of_encoder(layer)}", ENCODERS[1:]),
         "numbered, without context": ("sd15", lambda layer, numbers: comfy(layer, numbers) if "attn1" in layer else "",
                                       ("unet",))}


@pytest.mark.parametrize("case", CASES)
def test_the_names_of_other_programs_are_those_of_the_same_layers(pipes, tmp_path, draw, case):
    family, spell, parts = CASES[case]
    pipe = pipes[family]
    numbers, tensors, changes = layer_names.block_numbers(pipe.unet), {}, {}
    for key, weight in state(pipe).items():
        layer = key.removesuffix(".weight")
        wanted = ".attentions." in layer or ("self_attn" in layer or "mlp" in layer) and "text_projection" not in layer
        if layer == key or layer.split(".")[0] not in parts or weight.ndim not in (2, 4) or not wanted:
            continue
        if name := spell(layer, numbers):
            down, up = draw(2, *weight.shape[1:]), draw(len(weight), 2, *[1] * (weight.ndim - 2))
            tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            changes[key] = up.flatten(1) @ down.flatten(1)
    adapter = check(saved(tmp_path / "ink.safetensors", tensors), pipe, changes, family)
    assert adapter.layers == len(changes) > 4 and adapter.notes == ()


def test_magnitudes_under_half_converted_names_belong_to_their_layers(pipe, tmp_path, draw):
    layer = f"{ATTENTION}.to_k"
    down, up, magnitude = draw(4, 64), draw(64, 4), draw(64).abs() + 1
    path = saved(tmp_path / "ink.safetensors", {
        f"{kohya(layer)}.lora_down.weight": down, f"{kohya(layer)}.lora_up.weight": up,
        f"{kohya(ATTENTION)}.to_k.lora_magnitude_vector": magnitude})
    weight = pipe.unet.get_submodule(layer).weight.detach()
    whole = weight + up @ down
    change = whole / whole.norm(dim=1, keepdim=True) * magnitude[:, None] - weight
    adapter = check(path, pipe, {f"unet.{layer}.weight": change})
    assert adapter.layers == 1 and "W + dW" in adapter.lines[1]


def peft_file(folder, draw, name="adapter_model.safetensors", metadata=None):
    layer = f"{ATTENTION}.to_q"
    down, up = draw(4, 64), draw(64, 4)
    path = saved(folder / name, {f"base_model.model.{layer}.lora_A.weight": down,
                                 f"base_model.model.{layer}.lora_B.weight": up}, metadata)
    return path, f"unet.{layer}.weight", up @ down


@pytest.mark.parametrize(("config", "scale"), [
    ({"r": 4, "lora_alpha": 16}, 4.0), ({"r": 4, "lora_alpha": 16, "use_rslora": True}, 8.0),
    ({"lora_alpha": 4, "alpha_pattern": {"to_q": 2, "attn1.to_q": 16}}, 0.5),
    ({"lora_alpha": 4, "alpha_pattern": {"attn1.to_q": 16, "to_q": 2}}, 4.0),
    ({"lora_alpha": 4, "alpha_pattern": {r"^mid_block\.attentions": 16}}, 1.0),
    ({"alpha": 2}, 0.5), ({"lora_alpha": "many"}, 1.0)])
def test_alpha_beside_the_file_counts_as_peft_counts_it(pipe, tmp_path, draw, config, scale):
    path, key, delta = peft_file(tmp_path, draw)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert check(path, pipe, {key: scale * delta}).notes == ()


def test_a_kronecker_product_of_peft_is_scaled_though_it_has_no_factors(pipe, tmp_path, draw):
    w1, w2 = draw(4, 4), draw(16, 16)
    path = saved(tmp_path / "adapter_model.safetensors", {f"base_model.model.{ATTENTION}.to_q.lokr_w1": w1,
                                                          f"base_model.model.{ATTENTION}.to_q.lokr_w2": w2})
    key = f"unet.{ATTENTION}.to_q.weight"
    check(path, pipe, {key: torch.kron(w1, w2)})
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LOKR", "r": 8, "alpha": 4}))
    check(path, pipe, {key: 0.5 * torch.kron(w1, w2)})


@pytest.mark.parametrize(("metadata", "scale"), [
    ({"lora_alpha": "16", "r": "4"}, 4.0), ({"alpha": "2"}, 0.5), ({"ss_network_alpha": "8"}, 2.0),
    ({"lora_alpha": "16", "use_rslora": "true"}, 8.0), ({"lora_config": json.dumps({"lora_alpha": 8})}, 2.0),
    ({"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2}), "lora_alpha": "16"}, 0.5),
    ({"lora_alpha": "inf"}, 1.0)])
def test_alpha_in_plain_keys_of_the_header_counts(pipe, tmp_path, draw, metadata, scale):
    path, key, delta = peft_file(tmp_path, draw, metadata=metadata)
    check(path, pipe, {key: scale * delta})


def test_settings_that_are_not_followed_are_said(pipe, tmp_path, draw):
    path, key, delta = peft_file(tmp_path, draw, "ink.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(
        {"lora_alpha": 8, "alpha_pattern": {r".*attn\d.to_q": 2}}))
    assert "is an expression" in check(path, pipe, {key: 2 * delta}).notes[0]
    saved(tmp_path / "other.safetensors", {"x.lora_A.weight": draw(2, 2)})
    assert "may be about another file" in check(path, pipe, {key: delta}).notes[0]
    (tmp_path / "ink.adapter_config.json").write_text(json.dumps({"lora_alpha": 16}))
    assert check(path, pipe, {key: 4 * delta}).notes == ()


@pytest.mark.parametrize(("tensors", "change"), [
    (lambda w, a, b, c: {"weight": a[:64, :1], "on_input": torch.tensor(False)}, lambda w, a, b, c: w * a[:64, :1]),
    (lambda w, a, b, c: {"weight": a[:64, 0], "on_input": torch.tensor(True)}, lambda w, a, b, c: w * a[:64, 0]),
    (lambda w, a, b, c: {"ia3_l": a[:64, :1]}, lambda w, a, b, c: w * (a[:64, :1] - 1)),
    (lambda w, a, b, c: {"a1.weight": a, "a2.weight": b, "b1.weight": c, "b2.weight": b, "alpha": torch.tensor(2.0)},
     lambda w, a, b, c: 0.5 * (w @ a @ b + c @ b)),
    (lambda w, a, b, c: {"a2.weight": a, "a1.weight": b, "b2.weight": c, "b1.weight": b},
     lambda w, a, b, c: w @ a @ b + c @ b)], ids=["IA3 rows", "IA3 columns", "IA3 of peft", "GLoRA", "GLoRA, old"])
def test_kinds_that_change_a_weight_by_itself_are_applied(pipe, tmp_path, draw, tensors, change):
    layer = f"{ATTENTION}.to_v"
    weight = pipe.unet.get_submodule(layer).weight.detach()
    factors = draw(64, 4), draw(4, 64), draw(64, 4)
    path = saved(tmp_path / "ink.safetensors", {f"{kohya(layer)}.{role}": tensor for role, tensor
                                                in tensors(weight, *factors).items()})
    wanted = change(weight, *factors)
    adapter = check(path, pipe, {f"unet.{layer}.weight": wanted})
    x = draw(2, 64)
    with applied(pipe, [(adapter, 0.5, 1.0)]):
        torch.testing.assert_close(pipe.unet.get_submodule(layer)(x), x @ (weight + 0.5 * wanted).T, rtol=1e-4,
                                   atol=1e-4)


def test_a_convolution_in_the_factors_of_tucker_is_a_kronecker_product(draw):
    w1, a, b, core = draw(4, 4), draw(2, 16), draw(2, 16), draw(2, 2, 3, 3)
    part = Kronecker((w1,), (a, b), 1.0, core)
    w2 = torch.zeros(16, 16, 3, 3)
    for r in range(2):
        for s in range(2):
            w2 += a[r][:, None, None, None] * b[s][None, :, None, None] * core[r, s]
    wanted = 0.5 * torch.cat([torch.cat([w1[i, j] * w2 for j in range(4)], 1) for i in range(4)])
    assert part.fits(torch.Size((64, 64, 3, 3))) and not part.fits(torch.Size((64, 32, 3, 3)))
    torch.testing.assert_close(part.delta(), wanted)


@pytest.mark.parametrize(("tensors", "kind"), [
    ({"lora_unet_x.oft_blocks": (2, 4, 4), "lora_unet_x.alpha": ()}, "OFT"),
    ({"lora_unet_x.oft_blocks": (3, 2, 4, 4)}, "BOFT"), ({"base_model.model.x.boft_R": (3, 2, 4, 4)}, "BOFT"),
    ({"base_model.model.x.oft_R": (2, 6)}, "OFT"), ({"base_model.model.x.vera_lambda_b": (8,)}, "VeRA"),
    ({"ip_adapter.1.to_k_ip.weight": (8, 8)}, "IP-Adapter"),
    ({"down_blocks.0.motion_modules.0.proj_in.weight": (8, 8)}, "AnimateDiff")])
def test_a_kind_that_is_not_read_is_named(pipe, tmp_path, tensors, kind):
    path = saved(tmp_path / "ink.safetensors", {key: torch.zeros(shape) for key, shape in tensors.items()})
    with pytest.raises(ModelError, match=rf"it holds {kind}, which is not read here. Read are LoRA"):
        read(path, pipe, FAMILIES["sd15"])


def test_everything_in_a_file_that_has_no_effect_is_said(pipe, tmp_path, draw):
    layer = kohya(f"{ATTENTION}.to_q")
    path = saved(tmp_path / "ink.safetensors", {
        f"{layer}.lora_down.weight": draw(4, 64), f"{layer}.lora_up.weight": draw(64, 4),
        "lora_unet_elsewhere.lora_down.weight": draw(4, 64), "lora_unet_elsewhere.lora_up.weight": draw(64, 4),
        "lora_unet_mid_block_attentions_0_proj_in.oft_blocks": draw(2, 4, 4),
        "bundle_emb.sks.clip_l": draw(2, 768), "bundle_emb.sks.clip_l_out": draw(2, 768),
        "bundle_emb.v1.2.string_to_param.*": draw(2, 768), "something": draw(3)})
    adapter = read(path, pipe, FAMILIES["sd15"])
    assert adapter.lines == (
        "ink: 1 of 2 layers matched, rank 4",
        "ink: 1 of its layers are not in this model: lora_unet_elsewhere.",
        "ink: its embeddings are not read from a LoRA file: sks, v1.2.",
        "ink: 1 of its tensors are of OFT, which is not read here.",
        "ink: 1 of its tensors are not used: something.")
    with pytest.raises(ModelError, match=r"it holds embeddings alone \(sks\)"):
        read(saved(tmp_path / "sks.safetensors", {"bundle_emb.sks.emb_params": draw(2, 768)}), pipe, FAMILIES["sd15"])
