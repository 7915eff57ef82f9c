"""Files that are damaged, of no kind, or made to do harm are refused in words."""

from __future__ import annotations

import struct
from time import thread_time

import pytest
import torch
from safetensors.torch import save_file

from pipelines.adapters import write
from pipelines.adapters.read import read
from pipelines.errors import ModelError
from pipelines.families import FAMILIES
from tests.pipelines.adapters.made import parts_for

FAMILY = FAMILIES["sd15"]
STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture
def ink(sd_pipe, tmp_path):
    return write.write_kohya(tmp_path / "ink.safetensors", parts_for(sd_pipe), sd_pipe, FAMILY, write.About("ink"))


def saved(path, tensors):
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


def broken(change):
    def tensors():
        good = {f"{STEM}.lora_down.weight": torch.randn(4, 64), f"{STEM}.lora_up.weight": torch.randn(64, 4),
                f"{STEM}.alpha": torch.tensor(4.0)}
        return {key: value for key, value in {**good, **change}.items() if value is not None}
    return tensors


@pytest.mark.parametrize(("tensors", "words"), [
    (broken({f"{STEM}.lora_down.weight": torch.full((4, 64), torch.nan)}), "not finite"),
    (broken({f"{STEM}.lora_up.weight": torch.full((64, 4), torch.inf).half()}), "not finite"),
    (broken({f"{STEM}.alpha": torch.tensor(torch.nan)}), "not finite"),
    (broken({f"{STEM}.lora_down.weight": torch.zeros(2000, 64), f"{STEM}.lora_up.weight": torch.zeros(64, 2000)}),
     "rank 2000 .* from 1 to 1,024"),
    (broken({f"{STEM}.lora_down.weight": torch.zeros(0, 64), f"{STEM}.lora_up.weight": torch.zeros(64, 0)}), "rank 0"),
    (broken({f"{STEM}.lora_down.weight": torch.tensor(1.0)}), "rank none"),
    (broken({f"{STEM}.lora_down.weight": torch.zeros(4)}), "is made for a model of other sizes"),
    (broken({f"{STEM}.lora_down.weight": torch.zeros(4, 65)}), "64x64 here, and the file has down 4x65"),
    (broken({f"{STEM}.lora_up.weight": torch.zeros(64, 5)}), "is made for a model of other sizes"),
    (broken({f"{STEM}.lora_up.weight": torch.zeros(63, 4)}), "is made for a model of other sizes"),
    (broken({f"{STEM}.lora_down.weight": torch.zeros(4, 64, 3, 3)}), "is made for a model of other sizes"),
    (broken({f"{STEM}.lora_mid.weight": torch.zeros(4, 4, 3, 3)}), "is made for a model of other sizes"),
    (broken({f"{STEM}.lora_up.weight": None}), "is not whole: it has down"),
    (broken({f"{STEM}.lora_down.weight": None}), "is not whole: it has up"),
    (broken({f"{STEM}.alpha": torch.zeros(3)}), "is not whole"),
    (broken({f"{STEM}.dora_scale": torch.ones(7, 1)}), "magnitudes of .* are 7x1"),
    (broken({f"{STEM}.lora_magnitude_vector": torch.ones(3)}), "magnitudes of"),
    (broken({f"{STEM}.lora_down.weight": torch.zeros(4, 64, dtype=torch.int8)}), "is stored as I8"),
    (lambda: {f"{STEM}.hada_w1_a": torch.zeros(64, 2), f"{STEM}.hada_w1_b": torch.zeros(2, 64)}, "is not whole"),
    (lambda: {f"{STEM}.hada_w1_a": torch.zeros(64, 2), f"{STEM}.hada_w1_b": torch.zeros(3, 64),
              f"{STEM}.hada_w2_a": torch.zeros(64, 2), f"{STEM}.hada_w2_b": torch.zeros(2, 64)}, "of other sizes"),
    (lambda: {f"{STEM}.lokr_w1": torch.zeros(4, 4), f"{STEM}.lokr_w2": torch.zeros(16, 15)}, "of other sizes"),
    (lambda: {f"{STEM}.lokr_w1": torch.zeros(4, 4)}, "is not whole"),
    (lambda: {f"{STEM}.diff": torch.tensor(1.0)}, "of other sizes"),
    (lambda: {f"{STEM}.weight": torch.zeros(4, 4)}, "holds no LoRA"),
    (dict, "holds no LoRA"),
])
def test_what_is_damaged_is_refused_in_words(sd_pipe, tmp_path, tensors, words):
    path = saved(tmp_path / "ink.safetensors", tensors())
    with pytest.raises(ModelError, match=words) as fault:
        read(path, sd_pipe, FAMILY)
    assert "ink.safetensors" in str(fault.value) and str(tmp_path) not in str(fault.value)


def test_a_file_cut_short_anywhere_is_named(sd_pipe, ink):
    data = ink.read_bytes()
    for i in range(20):
        ink.write_bytes(data[:len(data) * i // 20])
        with pytest.raises(ModelError, match="ink.safetensors cannot be used"):
            read(ink, sd_pipe, FAMILY)


def test_flipped_bytes_never_raise_anything_else(sd_pipe, ink):
    data = bytearray(ink.read_bytes())
    draw = torch.Generator().manual_seed(0)
    places = torch.randint(0, len(data), (30,), generator=draw).tolist() + torch.randint(
        0, 4000, (60,), generator=draw).tolist()
    for place in places:
        changed = data.copy()
        changed[place] ^= 0x55
        ink.write_bytes(changed)
        try:
            read(ink, sd_pipe, FAMILY)
        except ModelError as fault:
            assert "ink.safetensors" in str(fault)


@pytest.mark.parametrize("header", [
    b'{"a.lora_down.weight":{"dtype":"F32","shape":[4,1152921504606846976],"data_offsets":[0,16]}}',
    b'{"a.lora_down.weight":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]},'
    b'"' + STEM.encode() + b'.lora_up.weight":{"dtype":"F32","shape":[4,1],"data_offsets":[8,24]}}',
    b'{"a.lora_down.weight":{"dtype":"F32","shape":[4,-1],"data_offsets":[0,16]}}',
    b'{"a.lora_down.weight":[]}', b"[" * 100_000, b"\xff" * 100, b'{"__metadata__":7}',
])
def test_crafted_headers_are_refused_quickly(sd_pipe, tmp_path, header):
    path = tmp_path / "ink.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    begin = thread_time()
    with pytest.raises(ModelError, match="ink.safetensors"):
        read(path, sd_pipe, FAMILY)
    assert thread_time() - begin < 1


def test_pickles_are_refused(sd_pipe, tmp_path):
    path = tmp_path / "ink.pt"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickles"):
        read(path, sd_pipe, FAMILY)


def test_a_file_that_shrinks_after_it_was_read_does_no_harm(sd_pipe, ink):
    adapter = read(ink, sd_pipe, FAMILY)
    before = [part.down.sum().item() for part in adapter.parts.values()]
    ink.write_bytes(b"")
    assert [part.down.sum().item() for part in adapter.parts.values()] == before
