"""What is read at each model call: a parsed prompt and a number of steps become flat, weighted text.

Three rules of counting, by the name of `rule`:
- "AUTOMATIC1111": calls count from 0, and read the first entry of the prompt's table whose end is at or above them, so
  that `[a:b:12]` is a for 13 calls. Solvers of the second order have twice as many steps. A whole
  number is a call, a number with a point a share of the steps. The second pass of hires fix goes on counting: whole
  numbers lose the first pass's total, and shares lose 1.
- "AUTOMATIC1111 before 1.6": the same lookup, but a number below 1 is a share, any other a call, and the second pass
  reads the first pass's table again.
- "Whole steps": steps count from 1, and all calls of a step read the same: `[a:b:12]` is a for 12 steps.

In image to image, counting begins with the first step that runs, while a share is of the steps that were asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .grammar import Alternate, Break, Node, Prompt, Scheduled, Text, Weighted, parse, without_tags
from .lora_tags import TAG

SHOWN_TAG = 60  # characters of a tag that a notice repeats

Emphasis = Literal["Original", "No norm", "Ignore", "None"]
Rule = Literal["AUTOMATIC1111", "AUTOMATIC1111 before 1.6", "Whole steps"]


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
class Span:
    """Which steps a prompt's numbers are of.

    total: how many. before: those of the pass that came before, in the second pass of hires fix, else 0. calls: model
    calls that read the same step, for the rule of whole steps.
    """

    total: int
    before: int = 0
    rule: Rule = "AUTOMATIC1111"
    calls: int = 1

    def switch(self, when: str) -> int:
        """The last step (from 1) of what stands before; 0 is never."""
        number = float(when)
        if self.rule == "AUTOMATIC1111 before 1.6":
            number = number * self.total if number < 1 else number
        elif "." in when:
            number = (number - (self.before > 0)) * self.total
        else:
            number -= self.before
        return int(min(max(number, 0), self.total))

    def step_of(self, call: int) -> int:
        """The step that a call reads, from 1. call: counted from 0 in its pass."""
        step = call // self.calls + 1 if self.rule == "Whole steps" else max(call, 1)
        return min(step, self.total)


def span_of(steps: int, rule: Rule, *, counted: int, before: int = 0, order: int = 1) -> Span:
    """Count the steps of a pass.

    counted: the steps as AUTOMATIC1111 counts them, twice for some samplers. before: those of the first pass of hires
    fix, in its second. order: model calls of a step.
    """
    if rule == "Whole steps":
        return Span(steps, 0, rule, order)
    if rule == "AUTOMATIC1111 before 1.6":
        return Span(before or counted, 0, rule)
    return Span(counted, before, rule)


@dataclass(frozen=True)
class Plan:
    """The scenes of a run, one a step of its span, and what was not taken as typed.

    composed: whether any step joins prompts or weighs one, which needs an unconditional call even at guidance 1.
    """

    scenes: tuple[Scene, ...]
    span: Span
    emphasis: Emphasis = "Original"
    notices: tuple[str, ...] = ()

    def at(self, call: int) -> Scene:
        """The scene of a model call, counted from 0; calls past the end read the last one."""
        return self.scenes[self.span.step_of(call) - 1]

    @property
    def composed(self) -> bool:
        prompts = self.scenes[0].prompts
        return len(prompts) > 1 or prompts[0][1] != 1


def plan(prompt: str, negative_prompt: str, span: Span | int, *, emphasis: Emphasis = "Original") -> Plan:
    """Read both prompts for the steps of a run; never raises.

    emphasis: "None" takes brackets, escapes and BREAK literally; the others differ in what weights do when embedding.
    """
    span = Span(span) if isinstance(span, int) else span
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
    ends = sorted({span.total, *_ends(positive, span), *_ends(negative, span)})
    made: dict[int, Scene] = {}
    scenes = []
    for step in range(1, span.total + 1):
        end = next(end for end in ends if end >= step)
        if end not in made:
            prompts = tuple((flatten(part.children, end, span, literal, notices), weight)
                            for part, weight in zip(positive.parts, weights, strict=True))
            made[end] = Scene(prompts, flatten(negative.parts[0].children, end, span, literal, notices))
        scenes.append(made[end])
    return Plan(tuple(scenes), span, emphasis, tuple(notices))


def flatten(children: Iterable[Node], step: int, span: Span, literal: bool = False,
            notices: dict[str, None] | None = None) -> Sections:
    """The weighted text that holds at `step` (from 1). Neighbours of equal weight are joined."""
    sections: list[list[Piece]] = [[]]
    for text, weight in _pieces(children, step, span, literal):
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


def _pieces(children: Iterable[Node], step: int, span: Span, literal: bool) -> Iterator[tuple[str | None, float]]:
    """(text, weight), and (None, 1) for BREAK."""
    for node in children:
        match node:
            case Text():
                yield (node.raw if literal else node.text), 1.0
            case Break():
                yield ("BREAK" if literal else None), 1.0
            case Scheduled():
                chosen = node.before if step <= span.switch(node.when) else node.after
                yield from _pieces(chosen, step, span, literal)
            case Alternate():
                yield from _pieces(node.options[(step - 1) % len(node.options)], step, span, literal)
            case Weighted() if literal:
                yield node.opening, 1.0
                yield from _pieces(node.children, step, span, literal)
                yield node.closing, 1.0
            case Weighted():
                # Inner weights first: the order of the products decides which neighbours are equal.
                for text, weight in _pieces(node.children, step, span, literal):
                    yield text, weight * node.weight


def _ends(prompt: Prompt, span: Span) -> set[int]:
    """Steps after which the text may change."""
    found: set[int] = set()
    waiting = [part.children for part in prompt.parts]
    while waiting:
        for node in waiting.pop():
            match node:
                case Weighted():
                    waiting.append(node.children)
                case Scheduled():
                    found.add(span.switch(node.when))
                    waiting += [node.before, node.after]
                case Alternate():
                    found.update(range(1, span.total + 1))
                    waiting += node.options
    return found


def _left_out(tag: str) -> str:
    if TAG.fullmatch(tag):  # those of the prompt are taken out and followed before anybody comes here
        return f"{tag[:SHOWN_TAG]} was left out: a LoRA works from the prompt, not from the negative prompt."
    return f"{tag[:SHOWN_TAG]} was left out: nothing here knows this kind of tag."


def _bounded(weight: float, notices: dict[str, None] | None) -> float:
    """The weight itself; 1 for what is no number that a model could take."""
    if math.isfinite(weight):
        return weight
    if notices is not None:
        notices[f"A weight of {weight:g} is not possible, so 1 was used."] = None
    return 1.0
