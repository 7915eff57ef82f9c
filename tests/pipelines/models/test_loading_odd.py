"""Files whose weights mean more than they hold, relatives with fewer blocks, and loading that has to end early."""

from __future__ import annotations

import json
import shutil

import pytest

from pipelines.errors import Cancelled, ModelError
from pipelines.families import FAMILIES
from pipelines.library.read.blocks import changes
from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models.interrupt import interruptible
from pipelines.models.loading import components_of_file, load
from tests.original_layout import original
from tests.tiny import tiny_sd

FLOAT32 = Placement("cpu", "float32", "float32")
UNET = "model.diffusion_model."
LAYER = f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def tiny(sd_folder):
    return load(read_folder(sd_folder, "tiny"), FLOAT32)


@pytest.fixture
def configs(sd_folder, tmp_path):
    return shutil.copytree(sd_folder, tmp_path / "configs", ignore=shutil.ignore_patterns("*.safetensors"))


def tensors_of(components):
    return {key: tensor.contiguous().clone() for key, tensor in original(components).items()}


@pytest.mark.parametrize(("ending", "by_row"), [("scale_weight", False), ("weight_scale", True)])
def test_weights_in_eight_bits_are_multiplied_by_their_scale(tiny, configs, tmp_path, ending, by_row):
    import torch
    from safetensors.torch import save_file

    tensors, wanted = tensors_of(tiny), {}
    matrices = [key for key, tensor in tensors.items() if key.endswith(".weight") and tensor.ndim == 2
                and key.startswith((UNET, "cond_stage_model.")) and "embedding" not in key]
    for key in matrices:
        largest = tensors[key].abs().amax(1, keepdim=True) if by_row else tensors[key].abs().max()
        scale = largest / 448
        stored = (tensors[key] / scale).to(torch.float8_e4m3fn)
        tensors |= {key: stored, f"{key.removesuffix('weight')}{ending}": scale.float()}
        wanted[key] = stored.float() * scale
    tensors |= {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
                f"{LAYER}.comfy_quant": torch.zeros(3, dtype=torch.uint8), f"{LAYER}.input_scale": torch.ones(())}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / "scaled.safetensors")
    loaded = original(components_of_file(tmp_path / "scaled.safetensors", configs, FAMILIES["sd15"], FLOAT32))
    assert any(key.startswith("cond_stage_model.") for key in wanted)
    for key, tensor in wanted.items():
        torch.testing.assert_close(loaded[key], tensor, rtol=1e-6, atol=0)


def test_tensors_that_no_layer_reads_are_an_error(tiny, sd_folder, configs, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    file = tmp_path / "odd.safetensors"
    save_file({**tensors_of(tiny), f"{LAYER}.weight_shift": torch.ones(1)}, file)
    with pytest.raises(ModelError, match="odd.safetensors cannot be used: 1 tensors of its unet belong to no layer, "
                                         f"the first is {LAYER}.weight_shift"):
        components_of_file(file, configs, FAMILIES["sd15"], FLOAT32)
    folder = shutil.copytree(sd_folder, tmp_path / "odd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(weights), "conv_in.weight_shift": torch.ones(1)}, weights, {"format": "pt"})
    with pytest.raises(ModelError, match="1 tensors of its unet belong to no layer, the first is conv_in.weight_shift"):
        load(read_folder(folder, "odd"), FLOAT32)


@pytest.mark.parametrize(("name", "absurd"), [
    ("text_encoder/config.json", {"num_hidden_layers": 100_000}), ("unet/config.json", {"layers_per_block": 100_000}),
    ("vae/config.json", {"block_out_channels": [8] * 9_000}),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12})])
def test_a_config_of_absurd_counts_is_refused_before_anything_is_built(sd_folder, tmp_path, name, absurd):
    folder = shutil.copytree(sd_folder, tmp_path / "absurd")
    card = read_folder(folder, "absurd")
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**config, **absurd}))
    with pytest.raises(ModelError, match=f"absurd/{name} cannot be used: {next(iter(absurd))}"):
        load(card, FLOAT32)


def test_stop_reaches_the_building_of_a_network(sd_folder):
    asked = []

    def go_on():
        asked.append(None)
        if len(asked) == 40:  # amid the layers of the first network
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        load(read_folder(sd_folder, "tiny"), FLOAT32, go_on=go_on)
    assert len(asked) == 40
    from torch.nn.modules import module

    assert not module._global_module_registration_hooks and not module._global_parameter_registration_hooks
    assert load(read_folder(sd_folder, "tiny"), FLOAT32)["unet"] is not None


def test_a_stop_amid_a_network_of_half_precision_leaves_the_numbers_of_the_process_alone(sd_folder, tmp_path):
    import torch
    from diffusers import UNet2DConditionModel

    folder = shutil.copytree(sd_folder, tmp_path / "half")
    UNet2DConditionModel.from_pretrained(folder / "unet").half().save_pretrained(folder / "unet")
    seen = []

    def go_on():
        seen.append(torch.get_default_dtype())
        if seen[-1] == torch.float16:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        load(read_folder(folder, "half"), FLOAT32, go_on=go_on)
    assert seen[-1] == torch.float16 and torch.get_default_dtype() == torch.float32


def test_a_deadline_ends_the_building_of_a_network():
    import torch

    with pytest.raises(ModelError, match="x was not loaded: it took longer than 0 s"), interruptible(
            lambda: None, "x", deadline_s=0):
        torch.nn.Linear(2, 2)


def test_a_single_file_with_fewer_transformer_blocks_gives_its_own_weights(sdxl_folder, tmp_path):
    import torch
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file

    folder = shutil.copytree(sdxl_folder, tmp_path / "relative", ignore=shutil.ignore_patterns("unet"))
    usual = json.loads((sdxl_folder / "unet" / "config.json").read_text())
    fewer = {"transformer_layers_per_block": [1, [1]], "reverse_transformer_layers_per_block": [[1, 2], 1],
             "mid_block_type": "UNetMidBlock2D"}
    unet = UNet2DConditionModel.from_config({**usual, **fewer})
    unet.save_pretrained(folder / "unet")
    tensors = tensors_of({**load(read_folder(sdxl_folder, "xl"), FLOAT32), "unet": unet})
    assert changes("x", tensors, usual, "XL") == fewer
    save_file(tensors, tmp_path / "relative.safetensors")
    configs = shutil.copytree(folder, tmp_path / "configs", ignore=shutil.ignore_patterns("*.safetensors"))
    loaded = components_of_file(tmp_path / "relative.safetensors", configs, FAMILIES["sdxl"], FLOAT32)["unet"]
    wanted = unet.state_dict()
    assert loaded.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in loaded.state_dict().items())


def test_a_relative_without_a_middle_block_draws_from_its_folder(tmp_path):
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    folder = tiny_sd(tmp_path / "small")
    config = json.loads((folder / "unet" / "config.json").read_text())
    unet = UNet2DConditionModel.from_config({**config, "mid_block_type": None})
    unet.save_pretrained(folder / "unet")
    components = load(read_folder(folder, "small"), FLOAT32)
    pipe = StableDiffusionPipeline(**components, safety_checker=None, feature_extractor=None,
                                   requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe("a cat", width=64, height=64, num_inference_steps=1, output_type="latent").images
    assert pipe.unet.mid_block is None and torch.isfinite(drawn).all()
