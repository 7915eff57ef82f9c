"""What a file is, is told by its content; what cannot be used says why."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from tests.pipelines.library.files import ORIGINAL_VAE, VAE, checkpoint, embedding, lora, vae, write


def test_the_content_decides_and_neither_folder_nor_name(look, root):
    checkpoint(root / "Lora" / "a.safetensors")
    lora(root / "checkpoints" / "b.safetensors")
    vae(root / "embeddings" / "c.safetensors")
    embedding(root / "VAE" / "d.safetensors")
    write(root / "ESRGAN" / "e.safetensors", {"conv_first.weight": (8, 3, 3, 3), "conv_last.weight": (3, 8, 3, 3)})
    assert set(look()) == {("checkpoint", "a"), ("lora", "b"), ("vae", "c"), ("embedding", "d")}


@pytest.mark.parametrize(("width", "family"), [(768, "sd15"), (1024, "sd2"), (2048, "sdxl")])
def test_checkpoints_and_loras_tell_their_family(look, root, width, family):
    checkpoint(root / "c.safetensors", width)
    lora(root / "l.safetensors", width, rank=16)
    found = look()
    assert {one.finding.family for one in found.values()} == {family}
    assert found["lora", "l"].finding.facts["ranks"] == [16]
    assert found["lora", "l"].finding.format == "safetensors, float16"


@pytest.mark.parametrize(("shapes", "layout"), [
    (ORIGINAL_VAE, "original"), ({VAE + name: shape for name, shape in ORIGINAL_VAE.items()}, "original"),
    ({"decoder.conv_in.weight": (8, 4, 3, 3), "decoder.mid_block.resnets.0.conv1.weight": (8, 8, 3, 3)}, "diffusers"),
    ({"decoder.layers.0.weight": (8, 4, 3, 3), "decoder.layers.2.conv.0.weight": (8, 8, 3, 3)}, "tiny")])
def test_every_layout_of_autoencoders_is_known(look, root, shapes, layout):
    write(root / "v.safetensors", shapes)
    assert look()["vae", "v"].finding.facts == {"layout": layout, "latent_channels": 4}


def test_an_autoencoder_for_other_models_says_so(look, root):
    write(root / "flux.safetensors", {**ORIGINAL_VAE, "decoder.conv_in.weight": (8, 16, 3, 3)})
    write(root / "film.safetensors", {name: (*shape, 3) for name, shape in ORIGINAL_VAE.items()})
    found = look()
    assert set(found) == {("vae", "flux")}
    assert "flux.safetensors cannot be used: it is an autoencoder of 16 latent channels" in found[
        "vae", "flux"].finding.fault


def test_an_autoencoders_family_is_told_by_the_config_beside_it(look, root):
    for name, factor in (("one", 0.18215), ("xl", 0.13025), ("odd", 0.5)):
        vae(root / name / "diffusion_pytorch_model.safetensors")
        (root / name / "config.json").write_text(json.dumps({"scaling_factor": factor}))
    assert {name: one.finding.family for (_, name), one in look().items()} == {"one": "sd15", "xl": "sdxl", "odd": ""}


@pytest.mark.parametrize(("shapes", "family", "vectors"), [
    ({"emb_params": (5, 768)}, "sd15", 5), ({"emb_params": (5, 1024)}, "sd2", 5), ({"<cat-toy>": (768,)}, "sd15", 1),
    ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "sdxl", 2), ({"<odd>": (2, 32)}, "", 2)])
def test_embeddings_of_every_format_are_known(look, root, shapes, family, vectors):
    write(root / "e.safetensors", shapes)
    finding = look()["embedding", "e"].finding
    assert (finding.family, finding.facts["vectors"]) == (family, vectors)


@pytest.mark.parametrize("shapes", [{"a.weight": (4, 768)}, {"x": (4, 4, 4)}, {"x": (4, 768), "y": (4, 760)},
                                    {"x": (300, 768)}, {"x": (2, 9000)}, {}])
def test_other_small_files_are_no_embeddings(look, root, shapes):
    write(root / "e.safetensors", shapes)
    assert not look()


@pytest.mark.parametrize(("shapes", "kind"), [
    ({"lora_unet_x.oft_blocks": (2, 4, 4)}, "OFT"), ({"base_model.model.x.boft_R": (2, 4, 4)}, "BOFT")])
def test_an_adapter_of_a_kind_that_is_not_read_is_listed_as_what_it_is(look, root, shapes, kind):
    write(root / "o.safetensors", shapes)
    assert f"o.safetensors cannot be used: it holds {kind}, which is not read here" in look()["lora", "o"].finding.fault


def test_what_a_lora_holds_beside_its_layers_is_told(look, root):
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    write(root / "l.safetensors", {f"{layer}.lora_down.weight": (4, 64), f"{layer}.lora_up.weight": (64, 4),
                                   "bundle_emb.sks.clip_l": (2, 768), "lora_unet_x.oft_blocks": (2, 4, 4)})
    assert look()["lora", "l"].finding.facts["unused"] == ["OFT", "sks"]


def test_a_rank_that_cannot_be_is_a_fault(look, root):
    lora(root / "l.safetensors", rank=2000)
    assert "rank 2000" in look()["lora", "l"].finding.fault


class Trap:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_pickles_are_named_by_their_folder_and_never_opened(look, root, tmp_path):
    mark = tmp_path / "executed"
    for name in ("a.ckpt", "embeddings/b.pt", "Lora/c.bin", "VAE/d.pth", "ESRGAN/e.pth", "f.bin", "Lora/twin.pt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(pickle.dumps(Trap(mark)))
    lora(root / "Lora" / "twin.safetensors")
    found = look()
    assert set(found) == {("checkpoint", "a"), ("embedding", "b"), ("lora", "c"), ("vae", "d"), ("lora", "twin")}
    assert "b.pt cannot be used: .pt files are pickles" in found["embedding", "b"].finding.fault
    assert not found["lora", "twin"].finding.fault
    assert not mark.exists()


def test_a_damaged_file_says_so_without_its_folder(look, root):
    whole = lora(root / "cut.safetensors").read_bytes()
    (root / "cut.safetensors").write_bytes(whole[:-10])
    (one,) = look().values()
    assert one.finding.fault.startswith("cut.safetensors cannot be used: it is cut short")
    assert str(root) not in one.finding.fault
