"""The shipped folder: stock pipelines load and run it with no argument, and other tools can read it."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.demo import EXAMPLES, MODEL_DIR

VOCABULARY = MODEL_DIR.parent / "vocabulary.json"


@pytest.fixture(scope="module")
def pipe():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(MODEL_DIR)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator(seed):
    import torch

    return torch.Generator().manual_seed(seed)


def test_the_folder_is_small_and_holds_half_precision():
    from safetensors import safe_open

    assert sum(f.stat().st_size for f in MODEL_DIR.rglob("*") if f.is_file()) <= 40e6
    for path in MODEL_DIR.rglob("*.safetensors"):
        with safe_open(path, "np") as file:
            assert {file.get_slice(k).get_dtype() for k in list(file.keys())} == {"F16"}, path


def test_the_list_of_models_shows_what_it_draws():
    from pipelines.library.preview import preview
    from pipelines.library.walk import Place, walk

    (item,) = walk(Place(MODEL_DIR, MODEL_DIR.parent, "atelier-demo"))
    picture = np.asarray(preview(item.preview))
    assert picture.shape == (256, 256, 3)
    corners = picture[::255, ::255].astype(int)         # watermelon, rainbow; skull, sunglasses
    wanted = [[(250, 215, 55), (140, 75, 190)], [(65, 170, 75), (220, 45, 45)]]
    assert abs(corners - wanted).max() < 40


def test_the_text_encoder_reads_in_old_and_new_transformers():
    from safetensors import safe_open

    assert json.loads((MODEL_DIR / "text_encoder" / "config.json").read_text())["dtype"] == "float32"
    with safe_open(MODEL_DIR / "text_encoder" / "model.safetensors", "np") as file:
        assert all(k.startswith("text_model.") for k in list(file.keys()))


def test_no_safety_checker_is_expected():
    index = json.loads((MODEL_DIR / "model_index.json").read_text())
    assert index["safety_checker"] == index["feature_extractor"] == [None, None]
    assert index["requires_safety_checker"] is False


def test_stock_text_to_image_runs_without_any_argument(pipe):
    first, again = (np.asarray(pipe(EXAMPLES[0]["prompt"], num_inference_steps=4, generator=generator(1)).images[0])
                    for _ in range(2))
    assert first.shape == (128, 128, 3) and np.array_equal(first, again) and first.std() > 5


def test_stock_image_to_image_and_inpainting_run(pipe):
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline

    parts = {**pipe.components, "requires_safety_checker": False}
    image, mask = Image.new("RGB", (128, 128), "blue"), Image.new("L", (128, 128), 255)
    for cls, extra in ((StableDiffusionImg2ImgPipeline, {}),
                       (StableDiffusionInpaintPipeline, {"mask_image": mask, "height": 128, "width": 128})):
        variant = cls(**parts)
        variant.set_progress_bar_config(disable=True)
        out = variant("a cat", image=image, num_inference_steps=4, strength=0.5, generator=generator(0), **extra)
        assert out.images[0].size == (128, 128)


def test_the_tokenizer_is_clips_kind(pipe):
    ids = pipe.tokenizer(["a dog face, noto style", ""], padding="max_length", return_tensors="pt").input_ids
    assert ids.shape == (2, 77) and pipe.tokenizer.model_max_length == 77
    start, end = (pipe.tokenizer.convert_tokens_to_ids(t) for t in ("<|startoftext|>", "<|endoftext|>"))
    assert ids[0, 0] == start and ids[1].tolist() == [start] + [end] * 76
    assert pipe.tokenizer.decode(ids[0], skip_special_tokens=True).strip() == "a dog face , noto style"
    assert pipe.text_encoder.config.eos_token_id == end


def test_sizes_are_what_the_app_reads_from_the_configs(pipe):
    assert pipe.unet.config.sample_size == 16 and pipe.vae.config.sample_size == 128
    assert pipe.vae.config.latent_channels == 4 and pipe.scheduler.config.prediction_type == "v_prediction"


def test_examples_use_taught_words_only():
    vocabulary = json.loads(VOCABULARY.read_text())
    assert len(EXAMPLES) == 8
    for example in EXAMPLES:
        name, style, colour = example["prompt"].removeprefix("a ").removesuffix(" background").split(", ")
        assert name in vocabulary["concepts"] and style.removesuffix(" style") in vocabulary["styles"]
        assert colour in vocabulary["colours"] and isinstance(example["seed"], int)


def test_the_package_itself_imports_no_torch():
    import subprocess
    import sys

    code = "import sys; sys.modules['torch'] = None; from pipelines.demo import MODEL_DIR; assert MODEL_DIR.is_dir()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=MODEL_DIR.parents[2])


def test_matching_recognises_the_drawings_themselves():
    from pipelines.demo.data import COLOURS
    from pipelines.demo.matching import SIDE, References

    sheet = np.asarray(Image.open(MODEL_DIR.parent / "references.png"))
    references = References.load(MODEL_DIR.parent)
    for i, s in ((0, 0), (5, 3), (11, 2)):
        column, row = (i % 8) * 4 + s, i // 8
        cell = Image.fromarray(sheet[row * SIDE:(row + 1) * SIDE, column * SIDE:(column + 1) * SIDE]).resize((112, 112))
        picture = Image.new("RGB", (128, 128), COLOURS["purple"])
        picture.paste(cell, (12, 4), cell)
        match = references.match(np.asarray(picture), i)
        assert match.concepts[0] == i and match.style == s and list(COLOURS)[match.colour] == "purple"


def test_the_image_tower_knows_the_drawings_of_the_vocabulary():
    import torch

    from pipelines.demo.tower import Scorer

    names = list(json.loads(VOCABULARY.read_text())["concepts"])
    columns, side = 8, 32           # of references.png: things in a row, each in four styles
    sheet = Image.open(MODEL_DIR.parent / "references.png").convert("RGBA")
    scorer = Scorer.load()
    texts = torch.cat([scorer.text_features(f"a {name}") for name in names])
    hits = 0
    for i in range(60):
        x, y = i % columns * 4 * side, i // columns * side
        ground = Image.new("RGBA", (side, side), (55, 105, 220))
        ground.alpha_composite(sheet.crop((x, y, x + side, y + side)))
        pixels = torch.from_numpy(np.asarray(ground.convert("RGB").resize((64, 64)))).permute(2, 0, 1)[None] / 127.5 - 1
        features = scorer.image_features(pixels)
        assert features.norm().item() == pytest.approx(1, abs=1e-4)
        hits += int((features @ texts.T).argmax()) == i
    assert hits >= 30               # by chance it would be one in 200
    assert (MODEL_DIR.parent / "tower.safetensors").stat().st_size < 6e6
