"""What pasted settings and the text of a picture do to the page: the handlers of the built page, called as it calls
them."""

from __future__ import annotations

import hashlib

import pytest

from pipelines.settings import load
from pipelines.studio.studio import Studio
from tests.pipelines.library.files import checkpoint, lora
from tests.pipelines.metadata.pictures import png
from ui import shell


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A page with the checkpoint toy and the LoRA inky, and their folder."""
    folder = tmp_path_factory.mktemp("pasting")
    checkpoint(folder / "models" / "toy.safetensors")
    lora(folder / "models" / "inky.safetensors")
    studio = Studio(load(["--data-dir", str(folder / "data"), "--model-dir", str(folder / "models")], {}))
    yield shell.build(studio), folder / "models"
    studio.close()


def answer(page, source: str, event: str, output: str, value: str) -> dict[str, object]:
    """The answer of an event's handler, by the elem_id of what it changes. source: the beginning of one, too."""
    ids = {number: str(getattr(block, "elem_id", "")) for number, block in page.blocks.items()}
    handler = next(one.fn for one in page.fns.values() if one.fn and output in [ids[part._id] for part in one.outputs]
                   and any(ids.get(number, "").startswith(source) and name == event for number, name in one.targets))
    return {part.elem_id: change for part, change in handler(value).items() if not isinstance(part, str)}


def paste(built, text: str, task: str = "txt2img") -> dict[str, object]:
    return answer(built[0], f"{task}-prompt", "change", "model", text)


def notices(changes: dict[str, object], task: str = "txt2img") -> list[str]:
    return str(changes[f"{task}-notices"]).split("\n")


def test_a_model_is_picked_by_its_path_or_its_hash_and_a_lora_renamed(built):
    digits = hashlib.sha256((built[1] / "toy.safetensors").read_bytes()).hexdigest()[:10]
    for model in ("Model: illustrious/toy.safetensors, Model hash: b0b64b4b6a", f"Model: other, Model hash: {digits}"):
        changes = paste(built, f"a boat <lora:s/inky.pt:0.7>\nSteps: 21, Seed: 77, {model}, Version: ComfyUI")
        assert changes["model"] == "toy" and changes["txt2img-prompt"] == "a boat <lora:inky:0.7>"
        assert changes["txt2img-steps"] == 21


def test_what_was_not_used_is_listed_also_what_another_tab_has(built):
    text = ("a boat\nSteps: 21, Seed: 77, Model: strange, Denoising strength: 0.5, Mask blur: 7, Hypernet: inkwork, "
            "odd, Version: v1.10.1\nTemplate: a {b|c}")
    told = notices(paste(built, text))
    assert {"Model: strange is not known here.", "Not used: Strength 0.5", "Not used: Mask blur (px) 7",
            "Hypernet (inkwork): Hypernetworks are not read here.", "Not used: Without a name odd",
            "Not used: Template a {b|c}"} <= set(told)
    assert "Not used: Mask blur (px) 7" not in notices(paste(built, text, "inpaint"), "inpaint")
    hires = "a boat\nSteps: 21, Seed: 77, Denoising strength: 0.5, Hires upscale: 2, Size: 64x64"
    assert {"Not used: Hires strength 0.5", "Not used: Hires scale 2"} <= set(notices(paste(built, hires, "img2img"),
                                                                                     "img2img"))


def test_settings_whose_line_breaks_were_lost_are_read_and_words_are_not(built):
    changes = paste(built, "a boat Negative prompt: fog Steps: 21, Sampler: Euler a, Seed: 77, Size: 64x64")
    assert changes["txt2img-prompt"] == "a boat" and changes["txt2img-negative_prompt"] == "fog"
    assert paste(built, "Subject: a red apple, Style: noto, Size: huge") == {}


def test_image_info_names_what_is_here_and_tells_what_is_not(built, tmp_path):
    page, _ = built
    text = "a boat <lora:gone:1>\nSteps: 21, Seed: 77, Model: a/toy.safetensors, Version: ComfyUI"
    changes = answer(page, "", "upload", "image_info-parameters",
                     str(png(tmp_path / "x.png", {"parameters": text})))
    assert ["Model", "toy"] in changes["image_info-fields"].value["data"]
    assert "LoRA: gone is not known here." in changes["image_info-unknown"].value
    unknown = answer(page, "", "upload", "image_info-parameters",
                     str(png(tmp_path / "y.png", {"odd": "words"})))
    assert unknown["image_info-parameters"] == "This picture carries texts, but of no tool that is known here."
