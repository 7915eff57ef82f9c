"""Models are found by what they contain, named safely, and never executed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from pipelines.errors import ModelError
from pipelines.library.checkpoints import EMBEDDED_NAME, find, lookup, short_hash, tokenizer_folder
from pipelines.library.hashes import Hashes
from pipelines.library.read.headers import read_header, small_tensor
from pipelines.library.read.hub import wanted_files
from pipelines.settings import Settings
from tests.pipelines.library.files import UNET, single_file, write_file

SD2_BIAS = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def test_the_embedded_model_comes_first_and_the_rest_is_found_at_any_depth(search, models, sdxl_folder):
    shutil.copytree(sdxl_folder, models / "Stable-diffusion" / "big one")
    write_file(models / "checkpoints" / "old" / "realism.safetensors", single_file(768))
    write_file(models / "painter.safetensors", single_file(768, in_channels=9))
    cards, faults = search()
    assert not faults
    assert cards[0].name == EMBEDDED_NAME
    found = {card.name: (card.family, card.kind, card.native_size, card.tasks) for card in cards[1:]}
    assert found == {"big one": ("sdxl", "folder", 64, ("txt2img", "img2img", "inpaint")),
                     "realism": ("sd15", "file", 512, ("txt2img", "img2img", "inpaint")),
                     "painter": ("sd15", "file", 512, ("inpaint",))}


def test_the_size_of_a_2x_file_is_told_from_its_weights_and_marks_say_what_it_predicts(search, models):
    spread = {SD2_BIAS: np.tile(np.float16([0.2, -0.2]), 160)}
    write_file(models / "v.safetensors", single_file(1024), spread)
    write_file(models / "noise.safetensors", single_file(1024), {SD2_BIAS: np.full(320, 0.01, np.float16)})
    write_file(models / "xl-v.safetensors", {**single_file(2048, block=4), "v_pred": (1,), "ztsnr": (1,)})
    cards = {card.name: card for card in search()[0]}
    assert (cards["v"].native_size, cards["v"].scheduler) == (768, {})  # it will be tried
    assert (cards["noise"].native_size, cards["noise"].scheduler) == (512, {})
    assert cards["xl-v"].scheduler["prediction_type"] == "v_prediction"
    assert cards["xl-v"].scheduler["rescale_betas_zero_snr"]


@pytest.mark.parametrize("dtype", ["F16", "F32", "BF16"])
def test_a_small_tensor_is_read_in_every_float_format(tmp_path, dtype):
    import torch
    from safetensors.torch import save_file

    values = torch.tensor([[0.5, -2.0], [1.25, 0.0]])
    save_file({"x": values.to({"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}[dtype])},
              tmp_path / "x.safetensors")
    assert small_tensor(read_header(tmp_path / "x.safetensors"), "x").tolist() == values.tolist()


def test_a_model_says_what_it_likes_and_nonsense_is_left_out(search, models, sd_folder):
    liked = {"title": "A title", "note": "n" * 900, "steps": 12, "guidance_scale": 5, "sampler": "Euler a",
             "schedule": "Automatic", "examples": [{"prompt": "a cat"}, "no table"], "path": "/etc/passwd"}
    wrong = {"title": ["x"], "steps": 10**9, "guidance_scale": True, "examples": "x"}
    for name, said in (("liked", liked), ("wrong", wrong)):
        shutil.copytree(sd_folder, models / name)
        (models / name / "atelier.json").write_text(json.dumps(said))
    cards = {card.name: card for card in search()[0]}
    card = cards["liked"]
    assert (card.title, card.steps, card.guidance_scale, card.sampler, card.schedule, card.examples) == (
        "A title", 12, 5.0, "Euler a", "Automatic", ({"prompt": "a cat"},))
    assert len(card.note) == 500
    assert (cards["wrong"].title, cards["wrong"].steps, cards["wrong"].guidance_scale) == ("wrong", 20, 7.0)


def test_what_is_no_checkpoint_is_passed_over_in_silence(search, models):
    write_file(models / "Lora" / "style.safetensors", {"lora_unet_x.lora_down.weight": (4, 8)})
    write_file(models / "VAE" / "vae.safetensors", {"decoder.conv_in.weight": (8, 4, 3, 3)})
    (models / "notes.txt").write_text("hello")
    cards, faults = search()
    assert (len(cards), faults) == (1, ())


def test_two_models_of_one_name_stay_apart_and_line_breaks_do_not_survive(search, models):
    for place in ("a", "b"):
        write_file(models / place / "same.safetensors", single_file(768))
    write_file(models / "two\nlines.safetensors", single_file(768))
    names = [card.name for card in search()[0]]
    assert names[1:] == ["two lines", "same", "b/same.safetensors"]
    assert len({name.casefold() for name in names}) == len(names)


def test_the_model_asked_for_comes_first(search, models, tmp_path, sdxl_folder):
    write_file(models / "one.safetensors", single_file(768))
    assert search(model="ONE")[0][0].name == "one"
    assert search(model=str(models / "one.safetensors"))[0][0].name == "one"
    elsewhere = shutil.copytree(sdxl_folder, tmp_path / "elsewhere")
    cards, _ = search(model=str(elsewhere))
    assert [card.name for card in cards] == ["elsewhere", EMBEDDED_NAME, "one"]


@pytest.mark.parametrize(("model", "words"), [
    ("no-such-model", "no-such-model.*nearest"), ("someone/something", "someone/something.*offline nothing is fetched"),
    ("no/such/folder", "'no/such/folder' is not here")])
def test_a_model_that_cannot_be_had_is_named_in_plain_words(search, model, words):
    with pytest.raises(ModelError, match=words):
        search(model=model)


def test_a_hub_model_in_the_cache_is_used_offline(sd_folder, tmp_path):
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / "0123456789abcdef"
    shutil.copytree(sd_folder, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text(snapshot.name)
    code = ("from pathlib import Path; from pipelines.library.checkpoints import find; "
            "from pipelines.settings import Settings; "
            f"card = find(Settings(data_dir=Path('{tmp_path}'), offline=True, model='some/model'))[0][0]; "
            "print(card.name, card.kind, card.family, card.path.name)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")})
    assert done.stdout.split() == ["some/model", "hub", "sd15", snapshot.name], done.stderr


def test_of_a_repository_only_one_set_of_weights_and_no_pickle_is_fetched():
    names = ["README.md", "model_index.json", "v1.ckpt", "v1.safetensors", "safety_checker/model.safetensors",
             "unet/config.json", "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.safetensors",
             "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors",
             "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors", "tokenizer/vocab.json",
             "tokenizer/merges.txt", "unet/extra/evil.py"]
    parts = ("unet", "vae", "tokenizer")
    rest = ["tokenizer/merges.txt", "tokenizer/vocab.json", "unet/config.json", "vae/config.json",
            "vae/diffusion_pytorch_model.fp16.safetensors", "model_index.json"]
    assert sorted(wanted_files(names, parts, half=False)) == sorted(
        [*rest, "unet/diffusion_pytorch_model.safetensors"])
    assert sorted(wanted_files(names, parts, half=True)) == sorted(
        [*rest, "unet/diffusion_pytorch_model.fp16.safetensors"])


def test_a_model_is_looked_up_by_name_or_title_and_never_as_a_path(search, models, sd_folder):
    shutil.copytree(sd_folder, models / "mine")
    (models / "mine" / "atelier.json").write_text('{"title": "My model"}')
    cards, _ = search()
    assert lookup(cards, "mine") is lookup(cards, "MY MODEL") is cards[1]
    for name in ("../mine", str(models / "mine"), "mine\0", "C:\\mine", "\\\\host\\mine", "%2e%2e/mine", "CON", ""):
        with pytest.raises(ModelError, match="is not here. The nearest is"):
            lookup(cards, name)
    with pytest.raises(ModelError) as caught:
        lookup(cards, "m" * 5000)
    assert len(str(caught.value)) < 120


def test_the_hash_is_that_of_the_file(search, models, tmp_path):
    file = write_file(models / "one.safetensors", single_file(768))
    assert short_hash(search()[0][1], Hashes(tmp_path / "data")) == sha256(file.read_bytes()).hexdigest()[:10]


def test_the_hash_of_a_folder_is_that_of_its_unet(search, sd_folder, tmp_path):
    unet = (sd_folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert short_hash(search()[0][0], Hashes(tmp_path)) == sha256(unet).hexdigest()[:10]


def test_the_fingerprint_changes_with_the_file(search, models):
    file = write_file(models / "one.safetensors", single_file(768))
    first = search()[0][1].fingerprint
    assert search()[0][1].fingerprint == first
    os.utime(file, ns=(1, 1))
    assert search()[0][1].fingerprint != first


def test_a_single_file_borrows_clips_tokenizer(search, models, tmp_path, sd_folder):
    write_file(models / "one.safetensors", single_file(768))
    embedded, file = search()[0]
    assert tokenizer_folder(embedded, tmp_path) == sd_folder / "tokenizer"
    folder = tokenizer_folder(file, tmp_path)
    assert len(json.loads((folder / "vocab.json").read_text())) == 49408
    assert tokenizer_folder(file, tmp_path) == folder


def test_without_any_model_the_reason_is_said(tmp_path):
    with pytest.raises(ModelError, match="model_index.json is missing"):
        find(Settings(data_dir=tmp_path), tmp_path / "absent")


def test_finding_models_imports_no_torch():
    code = ("import sys; from pathlib import Path; from pipelines.library.checkpoints import find; "
            "from pipelines.settings import Settings; find(Settings(data_dir=Path('/nonexistent'))); "
            "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
