"""ComfyUI: the settings are found by walking the executed graph back from the picture.

From the output node to the nearest sampler, on through earlier passes to the latents they began with; from the first
pass to its conditioning texts, its model and the LoRAs in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from .fields import MAX_PAIRS, Draft
from .graph import MAX_NODES, Graph, Node, link_of
from .names import rename
from .texts import Texts, add_tags, items_of, lora_tag, plain, stem, text_of

# Inputs that lead away from the picture, and away from the prompt.
_NOT_PICTURE = {"model", "clip", "vae", "positive", "negative", "conditioning", "guider", "sampler", "sigmas", "noise",
                "control_net", "upscale_model", "mask", "clip_vision", "ipadapter"}
_NOT_PROMPT = {"model", "clip", "vae", "control_net", "image", "mask", "samples", "latent", "pixels", "style_model",
               "clip_vision", "clip_vision_output"}
_PARTS = {"guider", "sampler", "sigmas", "noise"}  # what SamplerCustom takes from nodes of their own
_MODELS = ("ckpt_name", "unet_name", "model_name", "model_path", "base_ckpt_name")
# Nodes that are a sampler or a schedule by their kind alone.
_SAMPLER_KINDS = {"SamplerEulerAncestral": "euler_ancestral", "SamplerLMS": "lms", "SamplerDPMPP_SDE": "dpmpp_sde",
                  "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde", "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
                  "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral", "SamplerDPMAdaptative": "dpm_adaptive",
                  "SamplerEulerAncestralCFGPP": "euler_ancestral_cfg_pp", "SamplerLCMUpscale": "lcm"}
_SCHEDULE_KINDS = {"KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "SDTurboScheduler": "turbo",
                   "PolyexponentialScheduler": "polyexponential", "BetaSamplingScheduler": "beta",
                   "AlignYourStepsScheduler": "align_your_steps", "GITSScheduler": "gits"}
_LATENT_METHODS = {"nearest-exact": "Latent (nearest)", "bilinear": "Latent", "bicubic": "Latent (bicubic)"}
_PAIRS = (("Steps", ("steps",)), ("Sampler", ("sampler_name",)), ("Schedule type", ("scheduler",)),
          ("CFG scale", ("cfg",)), ("Seed", ("seed", "noise_seed")))
_MAX_LORAS = 50
_MAX_CHAIN = 1_000  # nodes along one chain of models, encoders or sampler parts; inputs of one loader
_READ = {"steps", "sampler_name", "scheduler", "cfg", "seed", "noise_seed", "denoise", "width", "height", "text",
         "text_g", "text_l", "t5xxl", "clip_l", "prompt", "string", "stop_at_clip_layer", "multiplier", "lora_name",
         "strength_model", "strength_clip", "scale_by", "upscale_method", *_MODELS}


def read(texts: Texts) -> Draft | None:
    """Read the first graph that has nodes; an editor's workflow alone is only listed."""
    for data in texts.objects.values():
        graph = Graph(data.get("prompt") if isinstance(data.get("prompt"), dict) else data)
        if graph.nodes:
            return _read(graph)
    workflow = texts.object_with("nodes", "links")
    if workflow is None:
        return None
    draft = Draft("ComfyUI")
    draft.notes.append("There is only ComfyUI's drawing of the graph, whose values have no names; they are listed.")
    for node in items_of(workflow["nodes"]):
        name = f"{plain(node.get('type'))[:80]} {plain(node.get('id'))[:20]}"
        if node.get("widgets_values"):
            draft.unknown[name] = plain(node["widgets_values"])
    return draft


def _read(graph: Graph) -> Draft:
    draft = Draft("ComfyUI")
    if graph.cut:
        draft.notes.append(f"The graph has more than {MAX_NODES:,} nodes; only the first were looked at.")
    passes = _passes(graph)
    if not passes:
        draft.notes.append("The graph has no sampler that is known here; its values are listed.")
        _list(draft, graph, set())
        return draft
    (first, before), used = passes[-1], set()
    draft.pairs |= _settings(graph, first, used)
    _size(draft, graph, before, used)
    _prompts(draft, graph, first, used)
    _model(draft, graph, first, used)
    if len(passes) == 2 and _second_pass(draft, graph, *passes[0], used):
        used.add(passes[0][0].id)
    elif len(passes) > 1:
        draft.notes.append(f"The picture went through {len(passes)} passes; only the first was read.")
    if not (graph.text_nodes_left and graph.text_left):
        draft.notes.append("Prompt: the graph makes it from too many nodes; the rest was left out.")
    rename(draft)
    _list(draft, graph, used)
    return draft


def _is_sampler(node: Node) -> bool:
    inputs = node.inputs
    return "guider" in inputs and "sigmas" in inputs or link_of(inputs.get("positive")) is not None and any(
        name in inputs for name in ("steps", "sigmas", "sampler_name"))


def _passes(graph: Graph) -> list[tuple[Node, list[Node]]]:
    """The samplers from the output back to the first, each with the nodes between it and the one before it."""
    fed = {link_of(value) for node in graph.nodes.values() for value in node.inputs.values()}
    ends = sorted((node for node in graph.nodes.values() if node.id not in fed),
                  key=lambda node: ("save" not in node.kind.lower(), "preview" not in node.kind.lower()))
    seen: set[str] = set()
    last = next((node for end in ends for node in graph.upstream([end], _to_picture, seen) if _is_sampler(node)), None)
    last = last or next(filter(_is_sampler, graph.nodes.values()), None)
    passes: list[tuple[Node, list[Node]]] = []
    seen = set()
    while last is not None:
        between: list[Node] = []
        passes.append((last, between))
        walk = graph.upstream([last] if last.id not in seen else graph.links(last, _to_picture), _to_picture, seen)
        last = _collect(walk, between, last)
    return passes


def _collect(walk: Iterator[Node], between: list[Node], start: Node) -> Node | None:
    for node in walk:
        if node is not start and _is_sampler(node):
            return node
        if node is not start:
            between.append(node)
    return None


def _to_picture(name: str) -> bool:
    return name not in _NOT_PICTURE


def _parts(graph: Graph, sampler: Node) -> list[Node]:
    """The sampler and the nodes that make up one: guider, solver, sigmas and noise."""
    return list(islice(graph.upstream([sampler], _PARTS.__contains__), _MAX_CHAIN))


def _settings(graph: Graph, sampler: Node, used: set[str]) -> dict[str, str]:
    """The values of a sampler and of the nodes that make up one."""
    parts = _parts(graph, sampler)
    used |= {part.id for part in parts}
    pairs = {}
    for key, names in _PAIRS:
        value = next((found for part in parts if (found := graph.value(part, *names)) is not None), None)
        kinds = {"Sampler": _SAMPLER_KINDS, "Schedule type": _SCHEDULE_KINDS}.get(key, {})
        value = next((kinds[part.kind] for part in parts if part.kind in kinds), value)
        if value is not None:
            pairs[key] = plain(value)
    denoise = next((found for part in parts if (found := graph.value(part, "denoise")) is not None), None)
    return pairs | ({"Denoising strength": plain(denoise)} if denoise is not None else {})


def _size(draft: Draft, graph: Graph, before: list[Node], used: set[str]) -> None:
    """The size of the empty latents; a picture in their place makes it image to image, which has a strength."""
    empty = next((node for node in before if "empty" in node.kind.lower() and "width" in node.inputs), None)
    if empty is None:
        empty = next((node for node in before if "width" in node.inputs and "height" in node.inputs
                      and not graph.links(node, _to_picture)), None)
    if empty is None:
        return
    used.add(empty.id)
    for key, name in (("Size-1", "width"), ("Size-2", "height")):
        if (value := graph.value(empty, name)) is not None:
            draft.pairs[key] = plain(value)
    if draft.pairs.get("Denoising strength") == "1":
        del draft.pairs["Denoising strength"]


def _prompts(draft: Draft, graph: Graph, sampler: Node, used: set[str]) -> None:
    parts = _parts(graph, sampler)
    encoders: list[Node] = []
    texts = {}
    for role, names in (("positive", ("positive", "conditioning")), ("negative", ("negative",))):
        start = next((part.inputs[name] for part in parts for name in names if name in part.inputs), None)
        found = _encoders(graph, start, role, encoders)
        if len(found) > 1:
            draft.notes.append(f"The {role} prompt is put together from {len(found)} in the graph; they were joined.")
        texts[role] = ", ".join(found)
    draft.prompt, draft.negative = texts["positive"], texts["negative"]
    used |= {node.id for node in encoders}
    loaders = [node for one in encoders for node in graph.links(one, "clip".__eq__)]
    for node in islice(graph.upstream(loaders, "clip".__eq__), _MAX_CHAIN):
        layer = graph.value(node, "stop_at_clip_layer")
        if isinstance(layer, int):
            used.add(node.id)
            draft.pairs["Clip skip"] = plain(-layer)
            return


def _encoders(graph: Graph, start: object, role: str, encoders: list[Node]) -> list[str]:
    """The texts that a conditioning is made of, in the order of the inputs."""
    found: dict[str, None] = {}  # in order, each text once
    waiting, seen = [start], set()
    while waiting:
        node = graph.follow(waiting.pop())
        if node is None or node.id in seen or node.kind == "ConditioningZeroOut":
            continue
        seen.add(node.id)
        inputs = node.inputs
        if role in inputs:  # ControlNet and loaders that carry both sides
            waiting.append(inputs[role])
            found[text_of(inputs[role]).strip()] = None
            continue
        names = [name for name in ("text_g", "text_l", "t5xxl", "clip_l", "text", "prompt", "string") if name in inputs]
        if not names:
            waiting.extend(value for name, value in reversed(inputs.items()) if name not in _NOT_PROMPT)
            continue
        encoders.append(node)
        found |= dict.fromkeys(graph.text(inputs[name]).strip() for name in names)
    return [text for text in found if text]


def _model(draft: Draft, graph: Graph, sampler: Node, used: set[str]) -> None:
    """The checkpoint, and the LoRAs between it and the sampler, the nearest to the checkpoint first."""
    models = [node for part in _parts(graph, sampler) for node in graph.links(part, _is_model)]
    tags: list[str] = []
    for node in islice(graph.upstream(models, _is_model), _MAX_CHAIN):
        found = _loras(graph, node)
        tags[:0] = found
        if (rescale := graph.value(node, "multiplier")) is not None and node.kind == "RescaleCFG":
            draft.pairs["Guidance rescale"] = plain(rescale)
            found = ["RescaleCFG"]
        if found:
            used.add(node.id)
        if name := stem(graph.value(node, *_MODELS)):
            used.add(node.id)
            draft.pairs["Model"] = name
            break
    if len(tags) > _MAX_LORAS:
        draft.notes.append(f"LoRAs: only the first {_MAX_LORAS} of {len(tags):,} were taken.")
    draft.prompt = add_tags(draft.prompt, tags[:_MAX_LORAS])


def _is_model(name: str) -> bool:
    return name in ("model", "model1", "unet", "lora_stack", "optional_lora_stack", "")


def _loras(graph: Graph, node: Node) -> list[str]:
    """The LoRAs of one loader: one by name, numbered ones, or objects with a switch."""
    tags = []
    for name, value in islice(node.inputs.items(), _MAX_CHAIN):
        if name == "lora_name":
            model = graph.value(node, "strength_model", "strength")
            clip = graph.value(node, "strength_clip")
            tags.append(lora_tag(graph.value(node, name), model if clip is None else clip, model))
        elif name.startswith("lora_") and isinstance(value, dict) and value.get("on"):
            tags.append(lora_tag(value.get("lora"), value.get("strength", 1)))
        elif name.startswith("lora_") and name[5:].isdecimal() and value != "None":
            tags.append(lora_tag(value, graph.value(node, f"strength_{name[5:]}")))
    return [tag for tag in tags if tag]


def _second_pass(draft: Draft, graph: Graph, sampler: Node, between: list[Node], used: set[str]) -> bool:
    """Read a second sampler behind something that enlarges as hires fix."""
    enlarger = next((node for node in between if "upscale_method" in node.inputs), None)
    scale = graph.value(enlarger, "scale_by")
    width, first_width = graph.value(enlarger, "width"), draft.pairs.get("Size-1", "")
    if scale is None and isinstance(width, int | float) and re.fullmatch(r"[1-9]\d{0,5}", first_width, re.ASCII):
        scale = round(width / int(first_width), 2)
    if scale is None:
        return False
    second = _settings(graph, sampler, used)
    used.add(enlarger.id)
    draft.pairs["Hires upscale"] = plain(scale)
    method = text_of(graph.value(enlarger, "upscale_method"))
    draft.pairs["Hires upscaler"] = _LATENT_METHODS.get(method, method) if "Latent" in enlarger.kind else \
        {"lanczos": "Lanczos"}.get(method, method)
    for ours, key in (("Hires steps", "Steps"), ("Hires sampler", "Sampler"), ("Hires schedule type", "Schedule type"),
                      ("Hires CFG Scale", "CFG scale"), ("Denoising strength", "Denoising strength")):
        if key in second and second[key] != draft.pairs.get(key):
            draft.pairs[ours] = second[key]
    return True


def _list(draft: Draft, graph: Graph, used: set[str]) -> None:
    """List every value that was not read. used: nodes whose inputs in _READ were."""
    for node in graph.nodes.values():
        read = _READ if node.id in used else ()
        values = {name: value for name, value in node.inputs.items() if link_of(value) is None and name not in read}
        if values and len(draft.unknown) == MAX_PAIRS:
            draft.notes.append(f"Only the first {MAX_PAIRS} nodes that are not used here are listed.")
            return
        if values:
            draft.unknown[f"{node.kind[:80]} {node.id[:20]}"] = plain(values)
