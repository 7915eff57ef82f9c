"""ComfyUI: the settings are found by walking the executed graph back from the picture.

From the output node to the nearest sampler, on through earlier passes to the latents they began with; from the first
pass to its conditioning texts, its model and the LoRAs in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from . import comfy_models, comfy_prompts
from .comfy_prompts import MAX_CHAIN, is_carrier
from .fields import MAX_PAIRS, Draft
from .graph import MAX_NODES, Graph, Node, link_of
from .hires import scale_between
from .names import rename
from .texts import Texts, items_of, plain, stem, text_of

# Inputs that lead away from the picture.
_NOT_PICTURE = {"model", "clip", "vae", "positive", "negative", "conditioning", "guider", "sampler", "sigmas", "noise",
                "control_net", "upscale_model", "mask", "clip_vision", "ipadapter", "script", "optional_vae",
                "lora_stack", "optional_lora_stack"}
_PARTS = {"guider", "sampler", "sigmas", "noise"}  # what SamplerCustom takes from nodes of their own
# Nodes that are a sampler or a schedule by their kind alone.
_SAMPLER_KINDS = {"SamplerEulerAncestral": "euler_ancestral", "SamplerLMS": "lms", "SamplerDPMPP_SDE": "dpmpp_sde",
                  "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde", "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
                  "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral", "SamplerDPMAdaptative": "dpm_adaptive",
                  "SamplerEulerAncestralCFGPP": "euler_ancestral_cfg_pp", "SamplerLCMUpscale": "lcm"}
_SCHEDULE_KINDS = {"KarrasScheduler": "karras", "ExponentialScheduler": "exponential", "SDTurboScheduler": "turbo",
                   "PolyexponentialScheduler": "polyexponential", "BetaSamplingScheduler": "beta",
                   "AlignYourStepsScheduler": "align_your_steps", "GITSScheduler": "gits"}
_LATENT_METHODS = {"nearest-exact": "Latent (nearest)", "bilinear": "Latent", "bicubic": "Latent (bicubic)"}
_PAIRS = (("Steps", ("steps", "steps_total")), ("Sampler", ("sampler_name", "sampler")),
          ("Schedule type", ("scheduler", "scheduler_name")), ("CFG scale", ("cfg", "cfg_scale")),
          ("Seed", ("seed", "noise_seed")))
_SIDES = (("width", "height"), ("empty_latent_width", "empty_latent_height"))
# Inputs of lists of sizes, such as "832 x 1216 (portrait)", which count before width and height.
_SIZES = ("resolution", "dimensions", "aspect_ratio", "ratio", "size", "preset", "ratio_selected")
_SIZE = re.compile(r"(?<!\d)(\d{2,5})\s*[x×*]\s*(\d{2,5})(?!\d)", re.ASCII)
_SWAPS = ("swap_dimensions", "invert", "swap", "flip")
_OWN_VAE = {"", "none", "baked", "bakedvae", "automatic", "default"}
_DETAILER = re.compile(r"detailer|ultimate.?sd.?upscale|facerestore", re.IGNORECASE)
_FACTOR = re.compile(r"(?<!\d)([248])x|x([248])(?!\d)", re.IGNORECASE)  # in the name of a network that enlarges


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
        _list(draft, graph)
        return draft
    details = [node for node, _ in passes[:-1] if _DETAILER.search(node.kind)]
    passes = _without(passes, details)
    first, before = passes[-1]
    parts = _parts(graph, first)
    draft.pairs |= _settings(draft, graph, parts)
    _size(draft, graph, [*before, first])
    encoders = comfy_prompts.read(draft, graph, parts)
    chain = comfy_prompts.clip_chain(graph, encoders)
    comfy_prompts.clip_skip(draft, graph, chain)
    comfy_models.read(draft, graph, parts, chain)
    _vae(draft, graph, passes)
    if len(passes) > 2 or len(passes) == 2 and not _second_pass(draft, graph, *passes[0]):
        draft.notes.append(f"The picture went through {len(passes)} passes; only the first was read.")
    if details:
        draft.notes.append(f"Parts of the picture were drawn again by {details[0].kind[:80]}, which is not done here.")
    if len(passes) == 1 and (script := graph.follow(first.inputs.get("script"))):
        _script(draft, graph, script)
    if not (graph.text_nodes_left and graph.text_left):
        draft.notes.append("Prompt: the graph makes it from too many nodes; the rest was left out.")
    rename(draft)
    _list(draft, graph)
    return draft


def _is_sampler(node: Node) -> bool:
    inputs = node.inputs
    is_fed = any(link_of(value) is not None and (name == "positive" or is_carrier(name))
                 for name, value in inputs.items())
    return "guider" in inputs and "sigmas" in inputs or is_fed and any(
        name in inputs for name in ("steps", "sigmas", "sampler_name"))


def _without(passes: list[tuple[Node, list[Node]]], left_out: Sequence[Node]) -> list[tuple[Node, list[Node]]]:
    """Leave passes out; what lay behind one of them lies behind the next that stays."""
    kept: list[tuple[Node, list[Node]]] = []
    for node, between in passes:
        if node not in left_out:
            kept.append((node, list(between)))
        elif kept:
            kept[-1][1].extend(between)
    return kept


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
    return list(islice(graph.upstream([sampler], _PARTS.__contains__), MAX_CHAIN))


def _settings(draft: Draft, graph: Graph, parts: Sequence[Node]) -> dict[str, str]:
    """The values of a sampler and of the nodes that make up one."""
    pairs = {}
    for key, names in (*_PAIRS, ("Denoising strength", ("denoise",))):
        value = next((found for part in parts if (found := graph.value(part, *names)) is not None), None)
        kinds = {"Sampler": _SAMPLER_KINDS, "Schedule type": _SCHEDULE_KINDS}.get(key, {})
        value = next((kinds[part.kind] for part in parts if part.kind in kinds), value)
        if value is not None:
            pairs[key] = plain(value)
        elif source := next((end for part in parts for name in names if name not in _PARTS
                             and (end := graph.follow(part.inputs.get(name)))), None):
            draft.notes.append(f"{key}: the graph computes it in {source.kind[:80]} {source.id[:20]}; it was left out.")
    return pairs


def _size(draft: Draft, graph: Graph, before: list[Node]) -> None:
    """The size of the empty latents; a picture in their place makes it image to image, which has a strength."""
    def sides(node: Node) -> tuple[str, str] | None:
        return next((pair for pair in _SIDES if pair[0] in node.inputs and pair[1] in node.inputs), None)

    def is_empty(node: Node) -> bool:
        return "empty" in node.kind.lower() or "empty_latent_width" in node.inputs

    empty = next((node for node in before if is_empty(node) and (sides(node) or _listed_size(graph, node))), None)
    if empty is None:
        empty = next((node for node in before if sides(node) and not graph.links(node, _to_picture)), None)
    if empty is None:
        return
    for place, key in enumerate(("Size-1", "Size-2")):
        name = sides(empty)[place] if sides(empty) else ""
        holder = graph.follow(empty.inputs.get(name)) or empty
        found = _listed_size(graph, holder)
        value = found[place] if found else graph.value(empty, name) if name else None
        if value is not None:
            draft.pairs[key] = plain(value)
    if draft.pairs.get("Denoising strength") == "1":
        del draft.pairs["Denoising strength"]


def _listed_size(graph: Graph, node: Node) -> tuple[str, str] | None:
    """The size that a node's list of sizes says; None where it says none, or leaves it to width and height."""
    for name in _SIZES:
        if found := _SIZE.search(text_of(node.inputs.get(name))[:200]):
            swap = next((key for key in _SWAPS if node.inputs.get(key) in (True, "On", "true")), None)
            graph.take(node, name, *([swap] if swap else []))
            return (found[2], found[1]) if swap else (found[1], found[2])
    return None


def _vae(draft: Draft, graph: Graph, passes: Sequence[tuple[Node, list[Node]]]) -> None:
    """The autoencoder, where a node loads another than the checkpoint's own."""
    holders = [node for node in graph.nodes.values() if "decode" in node.kind.lower()]
    holders += [passes[0][0], *passes[-1][1]]
    loaders = [loader for node in holders[:MAX_CHAIN]
               for loader in (graph.follow(node.inputs.get("vae") or node.inputs.get("optional_vae")), node) if loader]
    for loader in loaders:
        name = text_of(graph.peek(loader, "vae_name"))
        if name:
            graph.value(loader, "vae_name")
            if re.sub(r"[\s_-]", "", name.lower()) not in _OWN_VAE:
                draft.pairs["VAE"] = stem(name)
            return


def _second_pass(draft: Draft, graph: Graph, sampler: Node, between: list[Node]) -> bool:
    """Read a second sampler behind something that enlarges as hires fix."""
    enlarger = next((node for node in between if "upscale_method" in node.inputs), None)
    network = next((node for node in between if "upscale_model" in node.inputs), None)
    learned = stem(graph.peek(graph.follow(network.inputs["upscale_model"]), "model_name")) if network else ""
    scale = _scale_of(draft, graph, enlarger, learned)
    if scale is None:
        return False
    second = _settings(draft, graph, _parts(graph, sampler))
    draft.pairs["Hires upscale"] = scale
    method = text_of(graph.value(enlarger, "upscale_method"))
    if learned:
        graph.value(graph.follow(network.inputs["upscale_model"]), "model_name")
        draft.pairs["Hires upscaler"] = learned
    elif "latent" in enlarger.kind.lower():
        draft.pairs["Hires upscaler"] = _LATENT_METHODS.get(method, method)
    else:
        draft.pairs["Hires upscaler"] = {"lanczos": "Lanczos"}.get(method, method)
    for ours, key in (("Hires steps", "Steps"), ("Hires sampler", "Sampler"), ("Hires schedule type", "Schedule type"),
                      ("Hires CFG Scale", "CFG scale"), ("Denoising strength", "Denoising strength")):
        if key in second and second[key] != draft.pairs.get(key):
            draft.pairs[ours] = second[key]
    if second.get("Seed", draft.pairs.get("Seed")) != draft.pairs.get("Seed"):
        draft.unknown["Seed of the second pass"] = second["Seed"]
    return True


def _scale_of(draft: Draft, graph: Graph, enlarger: Node | None, learned: str) -> str | None:
    """How many times larger the second pass is: by a factor, by the network's name, or by a size."""
    factor = _FACTOR.search(learned)
    times = int(factor[1] or factor[2]) if factor else None if learned else 1
    if enlarger is None:
        return str(times) if learned and times else None
    by = graph.value(enlarger, "scale_by")
    if isinstance(by, int | float) and not isinstance(by, bool):
        return plain(round(by * times, 4)) if times else None
    first = [draft.pairs.get(key, "") for key in ("Size-1", "Size-2")]
    final = [graph.peek(enlarger, name) for name in ("width", "height")]
    if not all(re.fullmatch(r"[1-9]\d{0,4}", side, re.ASCII) for side in first):
        return None
    if not all(isinstance(side, int | float) and 0 <= side < 100_000 for side in final) or not any(final):
        return None
    graph.value(enlarger, "width")
    graph.value(enlarger, "height")
    return scale_between((int(first[0]), int(first[1])), (int(final[0]), int(final[1])))


def _script(draft: Draft, graph: Graph, script: Node) -> None:
    """Hires fix as a node beside the sampler (HighRes-Fix Script of the Efficiency nodes)."""
    if graph.peek(script, "upscale_by") is None:
        return
    kind = text_of(graph.value(script, "upscale_type"))
    name = "pixel_upscaler" if kind in ("pixel", "both") else "latent_upscaler"
    method = text_of(graph.value(script, name))
    pairs = {"Hires upscale": graph.value(script, "upscale_by"), "Hires steps": graph.value(script, "hires_steps"),
             "Denoising strength": graph.value(script, "denoise"),
             "Hires upscaler": _LATENT_METHODS.get(method, stem(method)) or None}
    draft.pairs |= {key: plain(value) for key, value in pairs.items() if value is not None}


def _list(draft: Draft, graph: Graph) -> None:
    """List every value that was not taken."""
    for node in graph.nodes.values():
        values = {name: value for name, value in node.inputs.items()
                  if link_of(value) is None and (node.id, name) not in graph.taken}
        if values and len(draft.unknown) == MAX_PAIRS:
            draft.notes.append(f"Only the first {MAX_PAIRS} nodes that are not used here are listed.")
            return
        if values:
            draft.unknown[f"{node.kind[:80]} {node.id[:20]}"] = plain(values)
