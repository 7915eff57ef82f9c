"""Both prompts of a ComfyUI graph: from the sampler back to the nodes that encode texts, and what those say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from .fields import Draft
from .graph import Graph, Node, names_for
from .literal import literal, note_escaped
from .texts import lora_tag, text_of

# Inputs that lead away from the prompt.
_NOT_PROMPT = {"model", "clip", "vae", "control_net", "image", "mask", "samples", "latent", "pixels", "style_model",
               "clip_vision", "clip_vision_output"}
_TEXTS = ("text_g", "text_l", "t5xxl", "clip_l", "clip_g", "text", "prompt", "string", "wildcard_text")
_CARRIER = re.compile(r"pipe|ctx|context|tuple|\bbus\b", re.IGNORECASE)  # inputs with model and prompts in one
_CLIP = re.compile(r"(base_|opt_|in_)?clip(_?1)?", re.IGNORECASE)
# Encoders that read the marks of AUTOMATIC1111's prompts, and what they call the way of reading.
_READ_MARKS = re.compile(r"smz|prompt ?control|^pc[A-Z]|pclazy|editableclip|a1111", re.IGNORECASE)
_PLAIN_PARSERS = ("comfy", "comfy++", "compel")
_BREAKS = re.compile(r"impact|wildcardencode", re.IGNORECASE)  # that read BREAK, and nothing else
TAG = re.compile(r"<lora:([^<>:]{1,300})((?::[^<>:]{0,300}){0,8})>", re.IGNORECASE)
MAX_CHAIN = 1_000  # nodes along one chain of models, encoders or sampler parts; inputs of one loader


@lru_cache(maxsize=1024)
def is_carrier(name: str) -> bool:
    """Whether an input of that name carries model and prompts in one."""
    return _CARRIER.search(name[:200]) is not None


def read(draft: Draft, graph: Graph, parts: Sequence[Node]) -> list[Node]:
    """Fill both prompts and the clip skip; returns the encoders. parts: the sampler and the nodes that make it up."""
    encoders: list[Node] = []
    texts = {}
    for role, names in (("positive", ("positive", "conditioning")), ("negative", ("negative",))):
        start = next((part.inputs[name] for part in parts for name in names if name in part.inputs), None)
        if start is None:
            start = next((value for part in parts for name, value in part.inputs.items() if is_carrier(name)), None)
        found = dict.fromkeys(text for text in map(str.strip, _encoded(graph, start, role, encoders, draft)) if text)
        if len(found) > 1:
            draft.notes.append(f"The {role} prompt is put together from {len(found)} in the graph; they were joined.")
        texts[role] = ", ".join(found)
    draft.prompt, draft.negative = texts["positive"], texts["negative"]
    return encoders


def clip_chain(graph: Graph, encoders: Sequence[Node]) -> list[Node]:
    """The nodes between the encoders and the checkpoint, and the encoders that are loaders themselves."""
    def before(node: Node) -> list[Node]:
        return graph.links(node, lambda name: _CLIP.fullmatch(name) is not None) or graph.links(node, is_carrier)

    return list(islice(graph.walk(list(encoders), before), MAX_CHAIN))


def clip_skip(draft: Draft, graph: Graph, chain: Sequence[Node]) -> None:
    """Take the layer at which a text encoder stops: -2 there is 2 here, and -1 or 0 the last."""
    for node in chain:
        layer = graph.peek(node, "stop_at_clip_layer", "clip_skip", "base_clip_skip", "clip_stop_at_last_layers")
        if isinstance(layer, int | float) and not isinstance(layer, bool) and layer == int(layer):
            graph.value(node, "stop_at_clip_layer", "clip_skip", "base_clip_skip", "clip_stop_at_last_layers")
            draft.pairs["Clip skip"] = str(max(1, abs(int(layer))))
            return


def _encoded(graph: Graph, start: object, role: str, encoders: list[Node], draft: Draft) -> list[str]:
    """The texts that a conditioning is made of, in the order of the inputs."""
    found: list[str] = []
    waiting, seen = [start], set()
    while waiting:
        node = graph.follow(waiting.pop())
        if node is None or node.id in seen or node.kind == "ConditioningZeroOut":
            continue
        seen.add(node.id)
        inputs = node.inputs
        names = _text_inputs(node)
        sided = next((name for name in names_for(role) if inputs.get(name) not in (None, "")), None)
        if sided and not names:  # ControlNet, and loaders that carry both sides
            linked = graph.follow(inputs[sided])
            if linked is not None and not _is_text(graph, linked):
                waiting.append(inputs[sided])
                continue
            names = [sided]
        if not names:
            carriers = [name for name in inputs if is_carrier(name)]
            waiting.extend(value for name, value in reversed(inputs.items())
                           if name in carriers or not carriers and name not in _NOT_PROMPT)
            continue
        encoders.append(node)
        found += [_as_ours(graph.text(inputs[name], role, (node.id, name)), node, draft) for name in names]
        waiting.extend(value for name, value in reversed(inputs.items()) if "conditioning" in name.lower())
    return found


def _text_inputs(node: Node) -> list[str]:
    if "populated_text" in node.inputs:
        return ["populated_text"]
    return [name for name in _TEXTS if name in node.inputs]


def _is_text(graph: Graph, start: Node) -> bool:
    """Whether a node makes a text: nothing before it encodes one."""
    return not any("clip" in name.lower() or "conditioning" in name.lower() or is_carrier(name)
                   for node in islice(graph.upstream([start]), 100) for name in node.inputs)


def _as_ours(text: str, encoder: Node, draft: Draft) -> str:
    """Write a text so that it means here what its encoder makes of it."""
    text = TAG.sub(lambda tag: our_tag(tag, draft), text)
    parser = text_of(encoder.inputs.get("parser", encoder.inputs.get("weight_interpretation", ""))).lower()
    if _READ_MARKS.search(encoder.kind) and parser not in _PLAIN_PARSERS:
        return text
    written = literal(text)
    if _BREAKS.search(encoder.kind):
        written = written.replace("\\BREAK", "BREAK")
    if written != text and not any(note.startswith("Prompt: square brackets") for note in draft.notes):
        note_escaped(draft)
    return written


def our_tag(tag: re.Match[str], draft: Draft) -> str:
    """Write a tag as ours: theirs name the U-Net's weight first, and the file with folder and ending."""
    numbers = [part for part in tag[2].split(":")[1:] if re.fullmatch(r"\s*[+-]?[\d.]{1,12}\s*", part)]
    others = [part for part in tag[2].split(":")[1:] if part.strip() and part not in numbers]
    if others:
        draft.notes.append(f"LoRAs: weights by block are not read here ({tag[1][:80]}: {':'.join(others)[:80]}).")
    model, clip = (numbers + numbers[:1] + ["1", "1"])[:2] if len(numbers) < 2 else numbers[:2]
    return lora_tag(tag[1], clip, model) or tag[0]
