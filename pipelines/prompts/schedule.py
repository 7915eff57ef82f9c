"""What is read at each step: a parsed prompt and a number of steps become flat, weighted text.

Steps count from 1, as AUTOMATIC1111 documents them: `[a:b:0.5]` is a for the first int(0.5 * steps) steps, `[a:b:12]`
for the first 12, and `[a|b]` begins with a. In img2img they count from the first step that runs, while a share is of
the steps that were asked for, as there. (It looks its table up one model call late, so that its own pictures change
one step later; `late` does the same.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .grammar import Alternate, Break, Node, Prompt, Scheduled, Text, Weighted, parse, without_tags
from .lora_tags import TAG

MAX_WEIGHT = 10.0  # of one word, either sign
SHOWN_TAG = 60  # characters of a tag that a notice repeats

Emphasis = Literal["Original", "No norm", "Ignore", "None"]


@dataclass(frozen=True)
class Piece:
    """Text that is tokenized as one, and its weight."""

    text: str
    weight: float = 1.0


Sections = tuple[tuple[Piece, ...], ...]  # BREAK lies between sections


@dataclass(frozen=True)
class Scene:
    """What one step reads. prompts: each with its weight, more than one after AND. negative: never composed."""

    prompts: tuple[tuple[Sections, float], ...]
    negative: Sections


@dataclass(frozen=True)
class Plan:
    """The scenes of a run, one a step, and what was not taken as typed.

    composed: whether any step joins prompts or weighs one, which needs an unconditional call even at guidance 1.
    """

    scenes: tuple[Scene, ...]
    emphasis: Emphasis = "Original"
    notices: tuple[str, ...] = ()

    def at(self, step: int) -> Scene:
        """The scene of a step, counted from 0; steps past the end read the last one."""
        return self.scenes[min(step, len(self.scenes) - 1)]

    @property
    def composed(self) -> bool:
        prompts = self.scenes[0].prompts
        return len(prompts) > 1 or prompts[0][1] != 1


def plan(prompt: str, negative_prompt: str, steps: int, *, emphasis: Emphasis = "Original",
         late: bool = False) -> Plan:
    """Read both prompts for a run of `steps` steps; never raises.

    emphasis: "None" takes brackets, escapes and BREAK literally; the others differ in what weights do when embedding.
    """
    notices: dict[str, None] = {}  # as an ordered set
    texts = []
    for text in (prompt, negative_prompt):
        text, tags = without_tags(text)
        notices.update((_left_out(tag), None) for tag in tags)
        texts.append(text)
    positive, negative = parse(texts[0]), parse(texts[1], composable=False)
    notices.update(dict.fromkeys((*positive.notices, *negative.notices)))
    literal = emphasis == "None"
    weights = [_bounded(part.weight, notices) for part in positive.parts]
    ends = sorted({steps, *_ends(positive, steps), *_ends(negative, steps)})
    made: dict[int, Scene] = {}
    scenes = []
    for step in range(1, steps + 1):
        asked = max(1, step - 1) if late else step
        end = next(end for end in ends if end >= asked)
        if end not in made:
            prompts = tuple((flatten(part.children, end, steps, literal, notices), weight)
                            for part, weight in zip(positive.parts, weights, strict=True))
            made[end] = Scene(prompts, flatten(negative.parts[0].children, end, steps, literal, notices))
        scenes.append(made[end])
    return Plan(tuple(scenes), emphasis, tuple(notices))


def flatten(children: Iterable[Node], step: int, steps: int, literal: bool = False,
            notices: dict[str, None] | None = None) -> Sections:
    """The weighted text that holds at `step` (from 1) of `steps`. Neighbours of equal weight are joined."""
    sections: list[list[Piece]] = [[]]
    for text, weight in _pieces(children, step, steps, literal):
        if text is None:
            sections.append([])
            continue
        weight = _bounded(weight, notices)
        last = sections[-1]
        if last and last[-1].weight == weight:
            last[-1] = Piece(last[-1].text + text, weight)
        elif text:
            last.append(Piece(text, weight))
    return tuple(map(tuple, sections))


def _pieces(children: Iterable[Node], step: int, steps: int, literal: bool) -> Iterator[tuple[str | None, float]]:
    """(text, weight), and (None, 1) for BREAK."""
    for node in children:
        match node:
            case Text():
                yield (node.raw if literal else node.text), 1.0
            case Break():
                yield ("BREAK" if literal else None), 1.0
            case Scheduled():
                chosen = node.before if step <= switch(node.when, steps) else node.after
                yield from _pieces(chosen, step, steps, literal)
            case Alternate():
                yield from _pieces(node.options[(step - 1) % len(node.options)], step, steps, literal)
            case Weighted() if literal:
                yield node.opening, 1.0
                yield from _pieces(node.children, step, steps, literal)
                yield node.closing, 1.0
            case Weighted():
                # Inner weights first: the order of the products decides which neighbours are equal.
                for text, weight in _pieces(node.children, step, steps, literal):
                    yield text, weight * node.weight


def switch(when: str, steps: int) -> int:
    """The last step (from 1) of what stands before: a number with a point is a share of the steps; 0 is never."""
    number = float(when) * steps if "." in when else float(when)
    return int(min(max(number, 0), steps))


def _ends(prompt: Prompt, steps: int) -> set[int]:
    """Steps after which the text may change."""
    found: set[int] = set()
    waiting = [part.children for part in prompt.parts]
    while waiting:
        for node in waiting.pop():
            match node:
                case Weighted():
                    waiting.append(node.children)
                case Scheduled():
                    found.add(switch(node.when, steps))
                    waiting += [node.before, node.after]
                case Alternate():
                    found.update(range(1, steps + 1))
                    waiting += node.options
    return found


def _left_out(tag: str) -> str:
    if TAG.fullmatch(tag):  # those of the prompt are taken out and followed before anybody comes here
        return f"{tag[:SHOWN_TAG]} was left out: a LoRA works from the prompt, not from the negative prompt."
    return f"{tag[:SHOWN_TAG]} was left out: nothing here knows this kind of tag."


def _bounded(weight: float, notices: dict[str, None] | None) -> float:
    if abs(weight) <= MAX_WEIGHT:
        return weight
    used = 1.0 if math.isnan(weight) else math.copysign(MAX_WEIGHT, weight)
    if notices is not None:
        notices[f"A weight of {weight:g} is not possible, so {used:g} was used. "
                f"Between {-MAX_WEIGHT:g} and {MAX_WEIGHT:g}."] = None
    return used
