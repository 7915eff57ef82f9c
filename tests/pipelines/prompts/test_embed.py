"""Conditioning by numbers: every tensor is computed once more here, from token ids and the published rules."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.errors import RequestError
from pipelines.families import FAMILIES
from pipelines.models.cache import build
from pipelines.prompts.chunks import MAX_CHUNKS
from pipelines.prompts.schedule import plan


@pytest.fixture(scope="module", params=["sd15", "sd2", "sdxl"])
def model(request, sd_folder, sdxl_folder, tmp_path_factory):
    """(family, pipeline); Stable Diffusion 2.x is the small 1.x with its other padding token."""
    import diffusers
    import torch

    from tests.tiny import write_tokenizer

    folder = sdxl_folder if request.param == "sdxl" else sd_folder
    parts = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True).components
    parts = {name: part for name, part in parts.items() if part is not None}
    with torch.no_grad():  # fresh final norms leave a mean of exactly zero, trained ones do not
        for name in ("text_encoder", "text_encoder_2"):
            if name in parts:
                getattr(parts[name], "text_model", parts[name]).final_layer_norm.bias.fill_(-0.1)
    if request.param == "sd2":
        parts["tokenizer"] = write_tokenizer(tmp_path_factory.mktemp("sd2") / "tokenizer", pad="!")
    return FAMILIES[request.param], build(request.param, "txt2img", parts)


def states_of(model, words, weights=None, *, clip_skip=1, norm=True):
    """One chunk: words of one token each -> (1, 77, width) and the pooled output, encoder by encoder."""
    import torch

    family, pipe = model
    sides, pooled = [], None
    for tokenizer_name, encoder_name in family.text_encoders:
        tokenizer, encoder = getattr(pipe, tokenizer_name), getattr(pipe, encoder_name)
        vocabulary = tokenizer.get_vocab()
        ids = [vocabulary["<|startoftext|>"], *(vocabulary[f"{word}</w>"] for word in words),
               vocabulary["<|endoftext|>"]]
        ids += [vocabulary[tokenizer.pad_token]] * (77 - len(ids))
        with torch.no_grad():
            out = encoder(torch.tensor([ids]), output_hidden_states=True)
        if family.name == "sdxl":
            state = out.hidden_states[-1 - clip_skip]
            pooled = out[0]
        else:
            norm_layer = getattr(encoder, "text_model", encoder).final_layer_norm
            state = norm_layer(out.hidden_states[-clip_skip])
        if weights:
            factors = torch.tensor([1.0, *weights, *[1.0] * (76 - len(weights))])
            weighted = state * factors[None, :, None]
            state = weighted * (state.mean() / weighted.mean()) if norm else weighted
        sides.append(state)
    return torch.cat(sides, -1), pooled


def embedded(model, prompt, negative="", **kwargs):
    from pipelines.prompts.embed import embed

    family, pipe = model
    return embed(pipe, family, prompt, negative, **kwargs)


def same(a, b, exact=False):
    import torch

    torch.testing.assert_close(a, b, **(dict(atol=0, rtol=0) if exact else dict(atol=2e-5, rtol=2e-4)))
    return True


def test_a_plain_prompt_equals_the_encoders_own_output(model):
    made = embedded(model, "a red cat", "a dog")
    positive, pooled = states_of(model, ["a", "red", "cat"])
    negative, negative_pooled = states_of(model, ["a", "dog"])
    assert same(made.embeds[1:], positive) and same(made.embeds[:1], negative)
    if pooled is not None:
        assert same(made.pooled[1:], pooled) and same(made.pooled[:1], negative_pooled)
    assert made.weights == (1.0,)


def test_a_weight_of_one_changes_no_bit(model):
    assert same(embedded(model, "(a red:1.0) cat").embeds, embedded(model, "a red cat").embeds, exact=True)


def test_weights_multiply_and_the_mean_is_restored(model):
    made = embedded(model, "a (red:1.5) [cat]", guided=False)
    expected, pooled = states_of(model, ["a", "red", "cat"], [1.0, 1.5, 1 / 1.1])
    assert same(made.embeds, expected)
    assert not same_or_not(made.embeds, embedded(model, "a red cat", guided=False).embeds)
    if pooled is not None:  # the pooled output is not weighted
        assert same(made.pooled, pooled)


def same_or_not(a, b):
    import torch

    return torch.allclose(a, b, atol=1e-4)


def condition(model, prompt, emphasis="Original", steps=1, step=0, guided=False, **kwargs):
    from pipelines.prompts.embed import Conditionings, Embedder

    family, pipe = model
    return Conditionings(Embedder(pipe, family, **kwargs), plan(prompt, "", steps, emphasis=emphasis),
                         guided=guided).at(step)


def test_emphasis_modes(model):
    plain, words = states_of(model, ["a", "red", "cat"])[0], ["a", "red", "cat"]
    assert same(condition(model, "a (red:1.5) cat", "No norm").embeds,
                states_of(model, words, [1, 1.5, 1], norm=False)[0])
    assert same(condition(model, "a (red:1.5) cat", "Ignore").embeds, plain)
    literal = condition(model, "a (red) cat", "None").embeds
    assert same(literal, states_of(model, ["a", "(", "red", ")", "cat"])[0])


def test_long_prompts_are_read_in_chunks_side_by_side(model):
    made = embedded(model, "cat " * 75 + "dog " * 3, guided=False)
    first, pooled = states_of(model, ["cat"] * 75)
    second, _ = states_of(model, ["dog"] * 3)
    import torch

    assert same(made.embeds, torch.cat([first, second], 1))
    if pooled is not None:
        assert same(made.pooled, pooled)


def test_a_near_comma_moves_its_phrase_into_the_next_chunk(model):
    import torch

    made = embedded(model, "cat " * 60 + ", red " + "dog " * 15, guided=False)
    expected = [states_of(model, ["cat"] * 60 + [","])[0], states_of(model, ["red"] + ["dog"] * 15)[0]]
    assert same(made.embeds, torch.cat(expected, 1))


def test_break_begins_a_new_chunk_and_each_mean_is_restored_alone(model):
    import torch

    made = embedded(model, "a (red:1.4) cat BREAK a dog", guided=False)
    expected = [states_of(model, ["a", "red", "cat"], [1, 1.4, 1])[0], states_of(model, ["a", "dog"])[0]]
    assert same(made.embeds, torch.cat(expected, 1))


def test_the_shorter_prompt_is_filled_up_with_empty_chunks(model):
    import torch

    empty = states_of(model, [])[0]
    made = embedded(model, "a cat BREAK a dog", "a fish")
    assert same(made.embeds[:1], torch.cat([states_of(model, ["a", "fish"])[0], empty], 1))
    made = embedded(model, "a cat", "a fish BREAK a dog BREAK a")
    assert same(made.embeds[1:], torch.cat([states_of(model, ["a", "cat"])[0], empty, empty], 1))


@pytest.mark.parametrize("prompt", ["a red cat", "a (red:1.5) cat"])
def test_clip_skip_reads_an_earlier_layer(model, prompt):
    weights = [1, 1.5, 1] if ":" in prompt else None
    made = embedded(model, prompt, clip_skip=2, guided=False)
    assert same(made.embeds, states_of(model, ["a", "red", "cat"], weights, clip_skip=2)[0])


def test_clip_skip_beyond_the_encoder_is_refused(model):
    with pytest.raises(RequestError, match="Clip skip: 9 is not possible"):
        embedded(model, "a cat", clip_skip=9)


def test_scheduled_prompts_are_other_tensors_at_the_right_steps_and_the_same_object_between(model):
    from pipelines.prompts.embed import Conditionings, Embedder

    family, pipe = model
    made = Conditionings(Embedder(pipe, family), plan("a [red:blue:0.25] cat", "[a:the:2]", 4), guided=True)
    expected = [("a red cat", "a")] * 2 + [("a blue cat", "a"), ("a blue cat", "the")]
    for step, (positive, negative) in enumerate(expected):
        assert same(made.at(step).embeds[1:], states_of(model, positive.split())[0])
        assert same(made.at(step).embeds[:1], states_of(model, negative.split())[0])
    assert made.at(0) is made.at(1) and made.at(1) is not made.at(2)


def test_equal_texts_are_embedded_once(model):
    from pipelines.prompts.embed import Conditionings, Embedder

    family, pipe = model
    calls = []
    handles = [getattr(pipe, name).register_forward_hook(lambda *_: calls.append(1))
               for _, name in family.text_encoders]
    try:
        embedder = Embedder(pipe, family)
        for _ in range(3):
            Conditionings(embedder, plan("[a cat|a dog]", "the sun", 20), guided=True)
    finally:
        for handle in handles:
            handle.remove()
    assert len(calls) == 3 * len(family.text_encoders)


def test_and_gives_one_row_a_prompt(model):
    made = embedded(model, "a cat :1.5 AND a dog AND a fish :-1", "the sun")
    assert made.weights == (1.5, 1.0, -1.0) and made.rows == 4
    for row, words in enumerate((["the", "sun"], ["a", "cat"], ["a", "dog"], ["a", "fish"])):
        assert same(made.embeds[row:row + 1], states_of(model, words)[0])


def test_rows_are_repeated_for_a_batch(model):
    made = embedded(model, "a cat AND a dog", "the sun")
    embeds, pooled = made.for_batch(2)
    assert same(embeds[2], made.embeds[1], exact=True) and same(embeds[3], made.embeds[1], exact=True)
    assert embeds.shape[0] == 6 and (pooled is None or pooled.shape[0] == 6)


def test_an_embedding_stands_for_its_bare_name(model):
    import torch

    family, pipe = model
    vectors = {"blue fish": {}}
    for tokenizer_name, encoder_name in family.text_encoders:
        table = getattr(pipe, encoder_name).get_input_embeddings().weight
        vocabulary = getattr(pipe, tokenizer_name).get_vocab()
        rows = table[[vocabulary["red</w>"], vocabulary["cat</w>"]]].detach().clone()
        vectors["blue fish"][encoder_name] = rows
    made = condition(model, "a blue fish (sun:1.5)", vectors=vectors)
    expected = states_of(model, ["a", "red", "cat", "sun"], [1, 1, 1, 1.5])[0]
    assert same(made.embeds, expected)
    assert same(condition(model, "a blue", vectors=vectors).embeds, states_of(model, ["a", "blue"])[0])
    torch.testing.assert_close(embedded(model, "a blue fish", guided=False).embeds,
                               states_of(model, ["a", "blue", "fish"])[0], atol=2e-5, rtol=2e-4)


def test_a_mean_of_nothing_is_not_restored(model):
    import torch

    from pipelines.prompts.embed import weigh

    states = torch.randn(1, 77, 8, generator=torch.Generator().manual_seed(0))
    centred = states - states.mean()
    assert same(weigh(centred, (2.0, 0.5), "Original"), weigh(centred, (2.0, 0.5), "No norm"), exact=True)
    shifted = states - 0.1
    assert weigh(shifted, (2.0, 0.5), "Original").mean().item() == pytest.approx(shifted.mean().item(), rel=1e-4)
    assert not torch.isnan(weigh(states * 0, (2.0,), "Original")).any()
    assert torch.isfinite(condition(model, "(a:-10) (cat:10)").embeds).all()


def test_beyond_the_cap_nothing_is_read_and_it_is_said(model):
    from pipelines.prompts.embed import Conditionings, Embedder

    family, pipe = model
    embedder = Embedder(pipe, family)
    made = Conditionings(embedder, plan("a BREAK " * 40, "", 1), guided=False)
    assert made.at(0).embeds.shape[1] == 77 * MAX_CHUNKS
    assert made.notices == ("The prompt is longer than 1500 tokens, so its end was not read.",)
    assert Conditionings(embedder, plan("a cat", "", 1), guided=False).notices == ()


def test_half_precision_states_keep_their_type():
    import torch

    from pipelines.prompts.embed import weigh

    states = torch.randn(1, 77, 16).to(torch.bfloat16)
    assert weigh(states, (1.0, 1.5), "Original").dtype == torch.bfloat16
    assert weigh(states, (1.0, 1.0), "Original") is states


# The loop: what the U-Net is told at each step, and what becomes of its answers

BASE = dict(negative_prompt="the sun", sampler="Euler", schedule="Automatic", steps=4, guidance_scale=3.0, width=64,
            height=64, seed=7)


def drawn(model, prompt, **changes):
    """The picture as an array, and the text the U-Net was told at each call."""
    import numpy as np

    from pipelines.events import ImageReady, Notice
    from pipelines.generation import generate
    from pipelines.requests import Txt2Img, make

    family, pipe = model
    told = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: told.append(kwargs["encoder_hidden_states"]), with_kwargs=True)
    try:
        request = make(Txt2Img, **{**BASE, "prompt": prompt, **changes})
        events = list(generate.run(request, pipe, family, {}.get))
    finally:
        hook.remove()
    images = [np.asarray(event.image, np.int16) for event in events if isinstance(event, ImageReady)]
    return SimpleNamespace(image=images[0], told=told,
                           notices=[event.text for event in events if isinstance(event, Notice)])


def furthest(a, b):
    return abs(a.image - b.image).max()


def test_the_unet_is_told_another_text_from_the_right_step_on(model):
    told = drawn(model, "[a cat:a dog:0.5]").told
    cat, dog = embedded(model, "a cat", "the sun").embeds, embedded(model, "a dog", "the sun").embeds
    assert len(told) == 4
    for step, expected in enumerate((cat, cat, cat, dog)):
        assert same(told[step], expected, exact=True)


def test_whole_steps_of_a_second_order_solver_change_with_the_steps_and_not_with_the_calls(model):
    told = drawn(model, "[a cat:a dog:2]", sampler="Heun", prompt_steps="Whole steps").told
    cat, dog = embedded(model, "a cat", "the sun").embeds, embedded(model, "a dog", "the sun").embeds
    assert len(told) == 7
    assert [same_or_not(one, cat) for one in told] == [True] * 4 + [False] * 3
    assert same(told[4], dog, exact=True)


def test_a_second_order_solver_has_twice_the_steps(model):
    told = drawn(model, "[a cat:a dog:0.5]", sampler="Heun").told
    cat = embedded(model, "a cat", "the sun").embeds
    assert [same_or_not(one, cat) for one in told] == [True] * 5 + [False] * 2


def test_a_schedule_that_never_changes_is_the_plain_picture(model):
    assert furthest(drawn(model, "[a cat:a dog:4]"), drawn(model, "a cat")) == 0
    assert furthest(drawn(model, "[a cat:a dog:2]"), drawn(model, "a cat")) > 0


@pytest.mark.parametrize(("composed", "plain", "changes"), [
    ("a cat :0.5 AND a cat :0.5", "a cat", {}),
    ("a cat :1 AND a dog :0", "a cat", {}),
    ("a cat :2 AND the sun :1", "a cat", {"guidance_scale": 6.0}),  # the second is the negative: it has no direction
])
def test_composition_is_the_sum_of_weighted_directions(model, composed, plain, changes):
    assert furthest(drawn(model, composed), drawn(model, plain, **changes)) <= 1


def test_both_parts_of_a_composition_are_seen_even_without_guidance(model):
    both = drawn(model, "a cat AND a dog", guidance_scale=1.0)
    assert both.told[0].shape[0] == 3
    assert furthest(both, drawn(model, "a cat", guidance_scale=1.0)) > 0


def test_weights_and_length_change_the_picture(model):
    plain = drawn(model, "a red cat")
    assert furthest(plain, drawn(model, "a (red:1.0) cat")) == 0
    assert furthest(plain, drawn(model, "a (red:3) cat")) > 0
    assert drawn(model, "cat " * 80 + "dog").told[0].shape[1] == 154


def test_what_was_not_taken_as_typed_is_said_once_a_run(model):
    notices = drawn(model, "a (cat:nan)", batch_count=3).notices
    assert len(notices) == 1 and "is not possible" in notices[0]
