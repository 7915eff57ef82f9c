"""How long it takes on a U-Net and text encoder of published size: in CPU time, as other programs run here, too."""

from __future__ import annotations

import json
from time import process_time
from types import SimpleNamespace

import pytest

from pipelines.adapters import layer_names, write
from pipelines.adapters.apply import applied
from pipelines.adapters.delta import LowRank
from pipelines.adapters.read import read
from pipelines.families import FAMILIES
from pipelines.families.clip import CONFIGS


@pytest.mark.slow
def test_a_file_of_rank_64_is_attached_within_a_second_and_its_weight_changed_at_once(tmp_path):
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder, family = CONFIGS / "sd15", FAMILIES["sd15"]
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(json.loads((folder / "unet" / "config.json").read_text()))
        encoder = CLIPTextModel(CLIPTextConfig(**json.loads((folder / "text_encoder" / "config.json").read_text())))
    pipe = SimpleNamespace(unet=unet.to(torch.bfloat16).to_empty(device="cpu"),
                           text_encoder=encoder.to(torch.bfloat16).to_empty(device="cpu"))
    parts = {path: LowRank(torch.full((64, *module.weight.shape[1:]), 0.01),
                           torch.full((len(module.weight), 64, *[1] * (module.weight.ndim - 2)), 0.01), 32.0)
             for path, module in layer_names.layers(pipe).items() if ".attentions." in path or ".layers." in path}
    path = write.write_kohya(tmp_path / "ink.safetensors", parts, pipe, family, write.About("ink"))
    assert len(parts) == 264
    times = []
    for _ in range(3):
        begin = process_time()
        with applied(pipe, [(read(path, pipe, family), 1.0, 1.0)]) as report:
            times.append(process_time() - begin)
            begin = process_time()
            report.weights[0].unet = 0.5
            assert process_time() - begin < 0.02
    assert min(times) < 1
