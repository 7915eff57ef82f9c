"""U-Nets of single files with fewer blocks than their family's, and configs that ask for more than their weights."""

from __future__ import annotations

import json
import re

import pytest

from pipelines.errors import ModelError
from pipelines.families.clip import CONFIGS
from pipelines.library.read.blocks import changes
from pipelines.library.read.card import read_file
from pipelines.library.read.counts import check_counts, check_scheduler
from pipelines.library.read.headers import read_header
from tests.pipelines.library.files import UNET, checkpoint, write

XL, SD = ({key: value for key, value in json.loads((CONFIGS / name / "unet" / "config.json").read_text()).items()}
          for name in ("sdxl", "sd15"))


def keys_of(inputs: dict[int, int], outputs: dict[int, int], middle: int | None):
    """Names of a resnet and of the transformer blocks at every place: number -> depth."""
    found = []
    for side, places in (("input_blocks", inputs), ("output_blocks", outputs)):
        for number, depth in places.items():
            found += [f"{UNET}{side}.{number}.0.in_layers.0.weight"]
            found += [f"{UNET}{side}.{number}.1.transformer_blocks.{i}.norm1.weight" for i in range(depth)]
    found += [f"{UNET}middle_block.0.in_layers.0.weight"]
    if middle is not None:
        found += [f"{UNET}middle_block.2.in_layers.0.weight"]
        found += [f"{UNET}middle_block.1.transformer_blocks.{i}.norm1.weight" for i in range(middle)]
    return found


FULL_XL = keys_of({1: 0, 2: 0, 4: 2, 5: 2, 7: 10, 8: 10}, {0: 10, 1: 10, 2: 10, 3: 2, 4: 2, 5: 2, 6: 0, 7: 0, 8: 0}, 10)
SSD_1B = keys_of({1: 0, 2: 0, 4: 2, 5: 2, 7: 4, 8: 4}, {0: 4, 1: 4, 2: 10, 3: 2, 4: 1, 5: 1, 6: 0, 7: 0, 8: 0}, None)


def test_a_file_with_all_blocks_of_its_family_changes_nothing():
    assert changes("x", FULL_XL, XL, "XL") == {} and changes("x", [], XL, "XL") == {}


# Their last level has no transformer blocks, and the middle has some all the same.
WITHOUT_AT_THE_END = {"sd15": 1, "sd2": 1, "sdxl_refiner": 4}


def full(family: str, middle: int) -> list[str]:
    depth = WITHOUT_AT_THE_END[family]
    first, last = (0, 0) if family == "sdxl_refiner" else (depth, depth)
    return keys_of({1: first, 2: first, 4: depth, 5: depth, 7: depth, 8: depth, 10: 0, 11: 0},
                   {0: 0, 1: 0, 2: 0, **dict.fromkeys(range(3, 9), depth), 9: last, 10: last, 11: last}, middle)


@pytest.mark.parametrize("family", WITHOUT_AT_THE_END)
def test_the_middle_of_every_family_is_known(family):
    config = json.loads((CONFIGS / family / "unet" / "config.json").read_text())
    depth = WITHOUT_AT_THE_END[family]
    assert changes("x", full(family, depth), config, family) == {}
    other = changes("x", full(family, depth + 1), config, family)
    assert other["transformer_layers_per_block"][-1] == depth + 1 and "mid_block_type" not in other


def test_fewer_transformer_blocks_are_another_config():
    assert changes("x", SSD_1B, XL, "XL") == {
        "transformer_layers_per_block": [1, [2, 2], [4, 4]],
        "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1], "mid_block_type": "UNetMidBlock2D"}


def test_other_blocks_are_refused_in_a_sentence_where_they_are_listed(tmp_path):
    small = keys_of({1: 1, 4: 1, 7: 1, 10: 0}, {0: 0, 2: 0, 3: 1, 5: 1, 6: 1, 8: 1, 9: 1, 11: 1}, None)
    whole = checkpoint(tmp_path / "small.safetensors")
    shapes = {**read_header(whole).shapes, **{key: (8,) for key in small}}
    with pytest.raises(ModelError, match=r"small.safetensors cannot be used: its U-Net has other blocks than Stable "
                                         r"Diffusion 1.x, as distilled models have \(13 instead of 22\)"):
        read_file(write(whole, shapes), "small")
    write(whole, {**read_header(checkpoint(whole)).shapes, f"{UNET}out.2.weight.absmax": (8,)})
    with pytest.raises(ModelError, match="packed into fewer bits"):
        read_file(whole, "small")


def test_markers_of_edm_mean_v_and_are_told(tmp_path):
    path = checkpoint(tmp_path / "cos.safetensors", 2048)
    write(path, {**read_header(path).shapes, "edm_vpred.sigma_max": (1,), "edm_vpred.sigma_min": (1,)})
    card = read_file(path, "cos")
    assert (card.scheduler["prediction_type"], card.predicts_by) == ("v_prediction", "file")
    assert "usual noise levels" in card.note


@pytest.mark.parametrize("config", [
    {"num_hidden_layers": 100_000}, {"text_config": {"num_hidden_layers": 100_000}}, {"num_layers": 10**30},
    {"block_out_channels": [8] * 1000}, {"layers_per_block": [9] * 60, "block_out_channels": [8] * 60},
    {"transformer_layers_per_block": [[1, 70]]}, {"max_position_embeddings": 10**10}, {"vocab_size": 2**40},
    {"projection_dim": 2**31}])
def test_a_config_that_asks_for_more_than_its_weights_is_refused(tmp_path, config):
    header = read_header(write(tmp_path / "w.safetensors", {f"layers.{i}.weight": (4, 4) for i in range(12)}))
    with pytest.raises(ModelError, match="^x/config.json cannot be used: .* its weights have at most"):
        check_counts("x/config.json", config, [header])


def test_honest_configs_pass():
    for path in CONFIGS.glob("*/*/config.json"):
        check_counts(str(path), json.loads(path.read_text()), [])
    check_counts("x", {"text_config": {"max_window_layers": 80, "num_hidden_layers": 2}}, [])  # as Qwen's say
    check_scheduler("x", {}), check_scheduler("x", {"num_train_timesteps": 1000})
    for wrong in (0, -1, 10**12, "many", None, True):
        with pytest.raises(ModelError, match=re.escape("num_train_timesteps")):
            check_scheduler("x", {"num_train_timesteps": wrong})
