"""Tokens, vectors and heat maps, on the real tokenizer and text encoder classes at tiny size."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from pipelines.lab import attention, text
from pipelines.lab.page_requests import PAGES
from pipelines.requests import make


@pytest.fixture(scope="module")
def pipe(sd_folder):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(sd_folder, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_reading_equals_what_the_tokenizer_gives_the_encoder(pipe):
    prompt = "a red cat zq on the sun"
    reading = text.read(pipe.tokenizer, prompt)
    ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
    assert [token.id for token in reading.tokens] == ids
    assert [token.place for token in reading.tokens] == list(range(77))
    assert reading.pieces == ["a</w>", "red</w>", "cat</w>", "z", "q</w>", "on</w>", "the</w>", "sun</w>"]
    kinds = [token.kind for token in reading.tokens]
    assert (kinds[0], kinds[8], kinds[9], kinds[10]) == ("start", "text", "end", "padding")
    assert reading.cut == ()


def test_what_lies_beyond_77_tokens_falls_off(pipe):
    reading = text.read(pipe.tokenizer, " ".join(["cat"] * 75 + ["dog", "fish"]))
    assert len(reading.tokens) == 77
    assert len(reading.pieces) == 75
    assert reading.cut == ("dog</w>", "fish</w>")
    assert reading.tokens[-1].kind == "end"


def test_vectors_are_the_encoders_states_and_the_pooled_one_stands_at_the_end_mark(pipe):
    ids = pipe.tokenizer("a red cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipe.text_encoder(ids)[0][0]
    seen = text.vectors(pipe.tokenizer, pipe.text_encoder, "a red cat")
    assert torch.allclose(seen.states, states, atol=1e-5)
    assert torch.allclose(seen.norms, states.square().sum(1).sqrt(), atol=1e-4)
    assert torch.allclose(seen.pooled, states[4], atol=1e-5)


def test_similarity_is_1_with_itself_and_symmetric(pipe):
    seen = [text.vectors(pipe.tokenizer, pipe.text_encoder, one) for one in ("a cat", "a dog", "the blue moon")]
    table = text.similarities(seen)
    assert torch.allclose(table.diagonal(), torch.ones(3), atol=1e-5)
    assert torch.allclose(table, table.T)
    by_hand = (seen[0].pooled @ seen[1].pooled) / (seen[0].pooled.norm() * seen[1].pooled.norm())
    assert float(table[0, 1]) == pytest.approx(float(by_hand), abs=1e-5)


def test_words_gather_the_places_of_their_pieces():
    pieces = ["a</w>", "z", "q</w>", "cat</w>", "a</w>"]
    assert attention.words_of(pieces) == {"a": [1, 5], "zq": [2, 3], "cat": [4]}


def draw(pipe) -> Image.Image:
    return pipe("a red cat", num_inference_steps=3, guidance_scale=3.0, height=64, width=64,
                generator=torch.Generator().manual_seed(1)).images[0]


def test_recording_changes_no_picture_and_leaves_the_processors_as_they_were(pipe):
    before, plain = dict(pipe.unet.attn_processors), draw(pipe)
    with attention.recorded(pipe.unet, 8, 8) as maps:
        recorded = draw(pipe)
        assert pipe.unet.attn_processors != before
    assert pipe.unet.attn_processors == before
    assert all(pipe.unet.attn_processors[name] is processor for name, processor in before.items())
    assert max(abs(a - b) for a, b in zip(plain.tobytes(), recorded.tobytes(), strict=True)) <= 1
    layers = sum(name.endswith("attn2.processor") for name in before)
    assert maps.count == 4 * layers  # PLMS calls the model once more than it has steps


def test_the_processors_come_back_after_an_error_too(pipe):
    before = dict(pipe.unet.attn_processors)
    with pytest.raises(KeyError), attention.recorded(pipe.unet, 8, 8):
        raise KeyError
    assert pipe.unet.attn_processors == before


def test_the_maps_of_all_tokens_add_up_to_one_at_every_place(pipe):
    with attention.recorded(pipe.unet, 8, 8) as maps:
        draw(pipe)
    whole = sum(maps.of([place]) for place in range(77))
    assert torch.allclose(whole, torch.ones(8, 8), atol=0.02)
    assert not torch.allclose(maps.of([1]), maps.of([3]), atol=1e-6)


def test_only_the_prompts_half_is_recorded():
    maps = attention.HeatMaps(2, 2, rows=2)
    uncond, cond = torch.zeros(1, 2, 4, 3), torch.ones(1, 2, 4, 3)
    maps.add(torch.cat([uncond, cond]).flatten(0, 1), heads=2)
    assert torch.allclose(maps.of([0]), torch.ones(2, 2))


def test_a_map_of_a_coarser_layer_and_of_a_wide_picture_lands_where_it_belongs():
    maps = attention.HeatMaps(4, 8, rows=1)
    probabilities = torch.zeros(1, 8, 1)  # 2 x 4 places
    probabilities[0, 3] = 1  # the top right one
    maps.add(probabilities, heads=1)
    heat = maps.of([0])
    assert heat.shape == (4, 8)
    assert heat[:2, 6:].mean() > 0.6
    assert heat[2:, :4].abs().max() < 0.05


def test_an_overlay_is_brightest_where_the_word_is_looked_at():
    heat = torch.zeros(4, 4)
    heat[3, 3] = 1
    shown = attention.overlay(Image.new("RGB", (64, 64), "black"), heat, strength=1.0)
    assert shown.size == (64, 64)
    assert sum(shown.getpixel((62, 62))) > sum(shown.getpixel((2, 2))) + 200


@pytest.mark.parametrize("page", [name for name, kind in PAGES.items() if "prompt" in kind.model_fields])
def test_a_comment_in_a_prompt_is_no_part_of_it_on_any_page(page):
    assert make(PAGES[page], prompt="# (off)\na red cat # at night").prompt == "a red cat"


def test_a_comment_is_no_prompt_to_compare_with():
    assert make(PAGES["words"], prompt="a cat", others="a dog # big\n# a bird\na cow").others == "a dog\na cow"
