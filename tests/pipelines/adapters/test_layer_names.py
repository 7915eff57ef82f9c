"""Layer names, against names from elsewhere: the original layout, and spelled-out examples of each program."""

from __future__ import annotations

import pytest

from pipelines.adapters import layer_names
from tests import original_layout
from tests.pipelines.adapters.made import weights


def test_every_matrix_and_convolution_has_a_path(pipe):
    found = layer_names.layers(pipe)
    assert found.keys() == weights(pipe).keys()
    assert all(found[path].weight.data_ptr() == weight.data_ptr() for path, weight in weights(pipe).items())


def test_every_layer_is_found_under_its_own_kohya_and_diffusers_name(pipe, family):
    table = layer_names.table(pipe)
    for given in (layer_names.kohya(pipe, family), layer_names.diffusers(pipe)):
        assert len(set(given.values())) == len(given)
        assert all(table[name] == path for path, name in given.items())


def test_numbered_names_are_those_of_the_original_layout(pipe):
    original = {tensor.data_ptr(): key for key, tensor in original_layout.unet(pipe.unet).items()}
    numbers = layer_names.block_numbers(pipe.unet)
    for path, module in layer_names.layers(pipe).items():
        if path.startswith("unet."):
            expected = original[module.weight.data_ptr()].removesuffix(".weight")
            assert layer_names.numbered(path.removeprefix("unet."), numbers) == expected


@pytest.mark.parametrize(("given", "path"), [
    ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
     "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"),
    ("lora_unet_mid_block_resnets_1_time_emb_proj", "unet.mid_block.resnets.1.time_emb_proj"),
    ("unet.up_blocks.0.attentions.1.transformer_blocks.0.attn2.processor.to_q",
     "unet.up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_q"),
    ("mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out",
     "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"),
    ("lora_te_text_model_encoder_layers_2_mlp_fc1", "text_encoder.encoder.layers.2.mlp.fc1"),
    ("lora_te1_encoder_layers_0_self_attn_q_proj", "text_encoder.encoder.layers.0.self_attn.q_proj"),
    ("text_encoder.text_model.encoder.layers.0.self_attn.out_proj",
     "text_encoder.encoder.layers.0.self_attn.out_proj"),
    ("text_encoder.text_model.encoder.layers.1.self_attn.to_out",
     "text_encoder.encoder.layers.1.self_attn.out_proj"),
])
def test_names_of_other_programs_are_known(sd_pipe, given, path):
    assert layer_names.table(sd_pipe)[given].replace(".text_model.", ".") == path


def test_sdxl_files_name_numbered_blocks_and_two_encoders(sdxl_folder):
    from pipelines.families import FAMILIES
    from tests.pipelines.adapters.made import pipe_of

    given = layer_names.kohya(pipe_of(sdxl_folder, "StableDiffusionXLPipeline"), FAMILIES["sdxl"])
    assert given["unet.down_blocks.0.resnets.0.conv1"] == "lora_unet_input_blocks_1_0_in_layers_2"
    assert given["unet.down_blocks.0.downsamplers.0.conv"] == "lora_unet_input_blocks_2_0_op"
    assert given["unet.down_blocks.1.attentions.0.proj_in"] == "lora_unet_input_blocks_3_1_proj_in"
    assert given["unet.up_blocks.0.upsamplers.0.conv"] == "lora_unet_output_blocks_1_2_conv"
    encoders = {name.split("text_model")[0] for name in given.values() if name.startswith("lora_te")}
    assert encoders == {"lora_te1_", "lora_te2_"} | {"lora_te2_text_projection"}


def test_a_model_that_peft_is_training_keeps_its_paths(sd_pipe):
    from peft import LoraConfig

    before = layer_names.layers(sd_pipe).keys()
    sd_pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "proj_in"]))
    assert layer_names.layers(sd_pipe).keys() == before
