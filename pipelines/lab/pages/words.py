"""Text: the prompt's tokens, how near other prompts are, a picture, and where each word is looked at in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ...events import Event, Notice, StepDone, Tabled
from ...generation import decode
from ...generation.batches import Pace
from .. import attention, autoencoder, text
from ..context import Made, Scene
from ..page_requests import Words

MOST_WORDS = 12  # that get a heat map


def answer(request: Words, scene: Scene) -> Iterator[Event | Made]:
    pipe = scene.pipe
    reading = text.read(pipe.tokenizer, request.prompt)
    prompts = [request.prompt, *(line.strip() for line in request.others.splitlines() if line.strip())]
    seen = [text.vectors(pipe.tokenizer, pipe.text_encoder, prompt) for prompt in dict.fromkeys(prompts)]
    yield _tokens(reading, seen[0].norms)
    yield Tabled("Similarity", ("Prompt", *(f"{number}" for number in range(1, len(seen) + 1))),
                 tuple((f"{number}. {one.prompt}", *(f"{float(cosine):.3f}" for cosine in row)) for number, (one, row)
                       in enumerate(zip(seen, text.similarities(seen), strict=True), 1)))
    chunks = text.chunks(pipe.tokenizer, request.prompt)
    yield Tabled("Passes", ("Pass", "Tokens", "Text"), tuple(
        (number, len(pieces), text.joined(pieces)) for number, pieces in enumerate(chunks, 1)))
    if reading.cut:
        yield Notice(f"{len(reading.cut)} tokens do not fit into one pass of the text encoder; their words get no map.")
    pace, grain = Pace(1), scene.native_px // autoencoder.GRAIN
    rows = 2 if request.guidance_scale > 1 else 1
    states = scene.states("Euler a", request.steps, request.prompt, request.guidance_scale, request.seed)
    with attention.recorded(pipe.unet, grain, grain, rows) as maps:
        for state in states:
            speed, left = pace.tick(state.step, state.steps, 1)
            yield StepDone(state.step, state.steps, 1, 1, speed, left)
            scene.go_on()
    image = decode.decode(pipe, state.latents)[0]
    yield Made("The picture", image)
    yield from _heat_maps(image, maps, reading.pieces)


def _tokens(reading: text.Reading, norms: torch.Tensor) -> Tabled:
    """Padding is one row: it is the same token again and again."""
    rows = [(token.place, token.id, token.piece, token.kind, f"{float(norms[token.place]):.1f}")
            for token in reading.tokens if token.kind != "padding"]
    padding = [token for token in reading.tokens if token.kind == "padding"]
    if padding:
        rows.append((f"{padding[0].place} to {padding[-1].place}", padding[0].id, padding[0].piece, "padding", ""))
    rows += [("", "", piece, "falls off", "") for piece in reading.cut]
    return Tabled("Tokens", ("Place", "Id", "Piece", "Kind", "Length of its vector"), tuple(rows))


def _heat_maps(image: object, maps: attention.HeatMaps, pieces: Iterable[str]) -> Iterator[Made]:
    found = {word: places for word, places in attention.words_of(list(pieces)).items() if any(map(str.isalnum, word))}
    for word, places in list(found.items())[:MOST_WORDS]:
        yield Made(f'"{word}"', attention.overlay(image, maps.of(places)))
