"""What an update is made of: chance stays in everything that is cached, and follows from seed and step alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.training.numbers import caches
from pipelines.training.numbers.batches import Batch, Draw
from tests.pipelines.training.conftest import write_pictures

STEPS = 120


def drawn(loop, steps: int = STEPS) -> list[Draw]:
    """Every draw of the first updates."""
    updates = loop.examples.order(2, 0)
    return [draw for step in range(steps) for draw in loop.examples.draw(next(updates), step, 0)]


def close(one: Batch, other: Batch) -> bool:
    return torch.allclose(one.x0, other.x0, atol=1e-6)


def test_with_everything_cached_captions_are_shuffled_and_dropped_and_pictures_flipped_and_cropped(make_loop):
    loop = make_loop(caption_dropout=0.25, shuffle=True, flip=True, crop="random", keep_first=1)
    loop.examples._latents._encode = loop.examples._embeddings._encode = None  # nothing is left to compute
    draws = drawn(loop)
    for draw in draws[:40]:
        assert loop.examples.batch([draw]).embeds is not None
    share = {"dropped": np.mean([draw.text == "" for draw in draws]), "flipped": np.mean([d.flip for d in draws])}
    assert share == {"dropped": pytest.approx(0.25, abs=0.1), "flipped": pytest.approx(0.5, abs=0.1)}
    wide = [draw for draw in draws if draw.example.picture.name == "3.png"]
    assert len({draw.text for draw in wide if draw.text}) > 1 and len({draw.box for draw in wide}) > 1
    assert all(draw.text.startswith("a cat") for draw in draws if draw.text)


def test_each_step_draws_its_own_sample_of_what_the_autoencoder_gave(make_loop):
    loop = make_loop()
    first = drawn(loop, 1)[0]
    entry = loop.examples._latents.get(first.example.picture, first.box, first.example.bucket, False)
    assert entry["std"].min() > 0
    again = [loop.examples.draw([0], step, 0)[0] for step in (0, 0, 1)]
    x0 = [loop.examples.batch([draw]).x0 for draw in again]
    assert torch.equal(x0[0], x0[1]) and not torch.equal(x0[0], x0[2])
    entry = loop.examples._latents.get(again[2].example.picture, again[2].box, again[2].example.bucket, again[2].flip)
    assert torch.allclose(x0[2][0], entry["mean"] + entry["std"] * again[2].posterior)


def test_a_flipped_picture_is_encoded_mirrored_with_its_mask(make_loop, tmp_path):
    place = write_pictures(tmp_path / "set", [(64, 64)])
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(place / "0-masklabel.png")
    loop = make_loop(data=str(place), flip=True, masked=True, batch_size=1)
    example = loop.examples.trained[0]
    plain, flipped = (loop.examples._latents.get(example.picture, example.boxes[0], example.bucket, flip)
                      for flip in (False, True))
    assert not torch.allclose(plain["mean"], flipped["mean"], atol=1e-3)
    assert torch.equal(plain["mask"].flip(-1), flipped["mask"]) and plain["mask"][..., 0].min() == 1
    upside = example.picture.path.with_name("mirror.png")
    Image.open(example.picture.path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(upside)
    mirrored = caches.Latents(loop.base, caches.TensorCache())._encode(
        type(example.picture)(upside, upside.name, "other"), example.boxes[0], example.bucket, False)
    assert torch.allclose(mirrored["mean"], flipped["mean"], atol=1e-5)


def test_the_autoencoder_and_the_number_format_are_part_of_a_latents_key(make_loop, tmp_path):
    from dataclasses import replace

    loop = make_loop()
    example, cache = loop.examples.trained[0], caches.TensorCache()

    def key(base) -> str:
        before = set(cache._kept)
        caches.Latents(base, cache).get(example.picture, example.boxes[0], example.bucket, False)
        return "old" if set(cache._kept) == before else "new"

    assert [key(loop.base), key(loop.base)] == ["new", "old"]
    other = replace(loop.base, card=replace(loop.base.card, fingerprint="another model"))
    assert key(other) == "new"
    loop.base.vae.to(torch.bfloat16)
    assert key(loop.base) == "new"


def test_a_half_precision_base_keeps_the_lora_in_full_precision_and_a_full_fine_tune_all_of_its_weights(make_loop):
    lora = make_loop(precision="bfloat16", optimizer="adamw")
    assert {one.dtype for one in lora.base.unet.parameters() if not one.requires_grad} == {torch.bfloat16}
    assert {one.dtype for one in lora.trainee.parameters} == {torch.float32}
    assert lora.optimizer.defaults["fused"]
    full = make_loop(precision="bfloat16", method="full")
    assert {one.dtype for one in full.trainee.parameters} == {torch.float32}
    assert full.base.autocast == torch.bfloat16


def test_the_average_follows_the_weights_with_its_decay(make_loop):
    loop = make_loop(ema=0.5, steps=2)
    name = next(iter(loop.trainee.named))
    start = loop.trainee.weights()[name].clone()
    expected, steps = start.clone(), 0
    for step in (20, 21):  # far enough for the decay itself
        loop.trainee.named[name].data += 1
        loop.average.update(step)
        expected, steps = 0.5 * expected + 0.5 * (start + steps + 1), steps + 1
    assert torch.allclose(loop.average.weights[name], expected, atol=1e-6)
    with loop.trainee.showing(loop.average.weights):
        assert torch.allclose(loop.trainee.weights()[name], expected, atol=1e-6)
    assert torch.allclose(loop.trainee.weights()[name], start + 2)
