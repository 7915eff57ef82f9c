"""What the names of a LoRA's tensors say: layer, role, kind."""

from __future__ import annotations

import pytest

from pipelines.library.read import lora_keys


@pytest.mark.parametrize(("key", "layer", "role"), [
    ("lora_unet_mid_block_to_q.lora_down.weight", "lora_unet_mid_block_to_q", "down"),
    ("lora_unet_mid_block_to_q.alpha", "lora_unet_mid_block_to_q", "alpha"),
    ("unet.mid_block.to_q.lora_A.weight", "unet.mid_block.to_q", "down"),
    ("unet.mid_block.to_q.lora_B.default.weight", "unet.mid_block.to_q", "up"),
    ("unet.mid_block.processor.to_q_lora.up.weight", "unet.mid_block.processor.to_q", "up"),
    ("text_encoder.q_proj.lora_linear_layer.down.weight", "text_encoder.q_proj", "down"),
    ("lora_te1_fc1.hada_w1_a", "lora_te1_fc1", "hada_w1_a"),
    ("lora_te1_fc1.lokr_w2_b", "lora_te1_fc1", "lokr_w2_b"),
    ("unet.to_q.lora_magnitude_vector.weight", "unet.to_q", "magnitude"),
    ("lora_unet_norm.w_norm", "lora_unet_norm", "w_norm"),
    ("lora_unet_conv.lora_mid.weight", "lora_unet_conv", "mid"),
    ("lora_unet_conv.b2.weight", "lora_unet_conv", "b2"),
])
def test_each_programs_names_are_parted_into_layer_and_role(key, layer, role):
    assert lora_keys.split(key) == (layer, role)


def test_tensors_of_one_layer_stand_together_and_others_are_handed_back():
    found, other = lora_keys.layers(["a.lora_up.weight", "a.lora_down.weight", "b.alpha", "step"])
    assert found == {"a": {"up": "a.lora_up.weight", "down": "a.lora_down.weight"}, "b": {"alpha": "b.alpha"}}
    assert other == ("step",)


def test_the_weight_beside_on_input_belongs_to_ia3():
    found, other = lora_keys.layers(["a.on_input", "a.weight", "c.weight"])
    assert found["a"] == {"on_input": "a.on_input", "ia3_w": "a.weight"} and other == ("c.weight",)


@pytest.mark.parametrize(("keys", "answer"), [
    (["a.lora_up.weight", "a.lora_down.weight"], True), (["a.alpha"], False), (["a.weight"], False),
    (["a.a1.weight"], False), (["a.a1.weight", "a.a2.weight", "a.b1.weight", "a.b2.weight"], True),
])
def test_short_names_that_may_be_anybodys_make_no_adapter(keys, answer):
    assert lora_keys.is_adapter({key: (1,) for key in keys}) is answer


def test_kinds_that_are_not_read_are_named_and_counted():
    shapes = {"a.oft_blocks": (2, 4, 4), "b.oft_blocks": (2, 4, 4), "c.oft_blocks": (2, 2, 4, 4),
              "d.vera_lambda_b": (4,)}
    assert lora_keys.not_read(shapes) == {"OFT": 2, "BOFT": 1, "VeRA": 1}


def test_the_words_of_embeddings_in_the_file_are_found():
    names = ["bundle_emb.red cat.clip_l", "bundle_emb.red cat.clip_g", "bundle_emb.v1.string_to_param.*", "a.alpha"]
    assert lora_keys.bundled(names) == ("red cat", "v1")
