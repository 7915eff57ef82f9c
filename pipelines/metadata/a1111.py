"""AUTOMATIC1111's infotext, to and from a request.

The text is the prompt, a `Negative prompt:` part and one last line of `Key: value` pairs, as written by
`create_infotext` and read by `parse_generation_parameters` in stable-diffusion-webui. It is written from, and
checked against, the declarations in requests.py. Text from a picture is a stranger's: it is capped, read in
linear time, and never trusted further than a request would be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from ..requests import Request, extra_of
from ..settings import EARLIER, EARLIER_MARK, VERSION
from . import settings_line
from .fields import MAX_TEXT, NEGATIVE, Draft, Parsed, checked
from .names import schedule_behind, spelled

PROGRAM = "Atelier"
OURS = f"{PROGRAM} {VERSION}"
WHOLE_STEPS = (f"{PROGRAM} 0.1.0",)  # versions that changed prompts after whole steps and do not say so

# AUTOMATIC1111's order. Pairs that are not in it follow in the order they come.
_ORDER = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE hash", "VAE",
          "Denoising strength", "Clip skip", "Mask mode", "Mask blur", "Inpaint area", "Masked area padding",
          "Masked content")
# Every other field is written only where it differs from its default.
_ALWAYS = {*_ORDER[:6], "Size-1", "Size-2", "Model", "Denoising strength", "Mask blur", "Upscale by", "Tile size",
           "RNG"}  # there another source is the default

_SIZES = ("Size", "Seed resize from")  # pairs that are two fields
_SIZE = re.compile(r"(\d{1,9})\s*x\s*(\d{1,9})", re.ASCII)


def infotext(request: Request, *, extra: Mapping[str, object] | None = None, version: str = OURS) -> str:
    """Write the text AUTOMATIC1111 would write for one picture.

    request: a concrete one. extra: further pairs such as {"Model hash": "1234567890"}; they win over the request's
    own, and None leaves a pair out. version: name and number of the writing program. Unlike there, blanks around
    the prompt are kept, and no value is left away for being equal to its key, so that `parse` gives back exactly
    the request. The format has one hole: a line of the prompt that begins with "Negative prompt:" is read as the
    start of the negative prompt.
    """
    pairs = {**_pairs_of(request), **(extra or {})}
    keys = [key for key in _ORDER if key in pairs] + [key for key in pairs if key not in _ORDER]
    settings = [f"{key}: {_quoted(pairs[key])}" for key in keys if pairs[key] is not None]
    lines = [request.prompt] if request.prompt else []
    lines += [f"{NEGATIVE}: {request.negative_prompt}"] if request.negative_prompt else []
    return "\n".join([*lines, ", ".join([*settings, f"Version: {version}"])])


def _pairs_of(request: Request) -> dict[str, object]:
    pairs = {}
    for name, info in type(request).model_fields.items():
        key, value = extra_of(info)["infotext"], getattr(request, name)
        padding_matters = name == "masked_padding" and request.inpaint_area == "Only masked"
        if not key or key == NEGATIVE or value is None:
            continue
        second_pass = name == "hires_strength"
        always = request.hires_scale > 1 if second_pass else key in _ALWAYS
        if always or value != info.default or padding_matters:
            pairs[key] = extra_of(info)["words"].get(value, value)
    for key in _SIZES:
        width, height = pairs.pop(f"{key}-1", 0), pairs.pop(f"{key}-2", 0)
        pairs[key] = f"{width}x{height}" if width or height else None
    return pairs


def _quoted(value: object) -> str:
    """Quote as AUTOMATIC1111 does, and also what its reader would strip or unquote."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    plain = text and text.isprintable() and text == text.strip() and text[0] != '"' and not set(text) & set(",:")
    return text if plain else json.dumps(text, ensure_ascii=False)


def parse(text: object, allowed: Mapping[str, Collection[str]] | None = None) -> Parsed:
    """Read a text of AUTOMATIC1111, Forge, SD.Next, Civitai or our own. Never raises; takes linear time.

    allowed: names that may be chosen, by field: {"model": [...], "sampler": [...]}; any other becomes a note.
    Fields whose values a request would refuse become notes as well.
    """
    if not isinstance(text, str):
        return Parsed({}, {}, ("There is no text to read.",))
    return checked(split(text), allowed)


def split(text: str) -> Draft:
    """Take a text apart into its prompts and pairs."""
    draft = Draft()
    if len(text) > MAX_TEXT:
        draft.notes.append(f"The text is {len(text):,} characters long; only the first {MAX_TEXT:,} were read.")
    lines = text[:MAX_TEXT].split("\n")
    if _is_ours(lines[-1]):  # whose settings have no line break, whatever the prompt before them looks like
        draft.tool = PROGRAM
        draft.prompt, draft.negative = _prompts(lines[:-1])
        draft.pairs = _as_meant(_normal(settings_line.find(lines[-1:]).pairs))
        if draft.pairs.get("Version") in WHOLE_STEPS:
            draft.pairs.setdefault("Old prompt editing timelines", "Whole steps")
        return draft
    lines = settings_line.unflattened(text[:MAX_TEXT]).split("\n")
    found = settings_line.find(lines)
    # Other writers strip every line, and a Windows editor puts a \r behind each.
    prompts = _prompts([line.strip() for line in lines[:found.start]])
    draft.prompt, draft.negative = (part.strip() for part in prompts)
    draft.pairs = _normal(found.pairs)
    if "Sampler" in draft.pairs:
        draft.silent["noise_source"] = "NV"  # AUTOMATIC1111 draws on the card, and does not say so
    if found.loose:
        draft.unknown["Without a name"] = ", ".join(found.loose)
    _list_below(draft, lines[found.end:])
    return draft


def _as_meant(pairs: dict[str, str]) -> dict[str, str]:
    """Mark the schedules of the earlier version, so that its pictures come out as they were."""
    if pairs.get("Version") != f"{PROGRAM} {EARLIER}" or "Sampler" not in pairs:
        return pairs
    schedules = {"Schedule type": "Automatic", **pairs}
    return schedules | {key: schedules[key] + EARLIER_MARK for key in ("Schedule type", "Hires schedule type")
                        if key in schedules and not schedules[key].startswith("Use same")}


def _is_ours(line: str) -> bool:
    pairs = settings_line.find([line]).pairs if f"Version: {PROGRAM} " in line else {}
    return pairs.get("Version", "").startswith(f"{PROGRAM} ") and not line.endswith("\r")


def _list_below(draft: Draft, lines: list[str]) -> None:
    """List what stands below the settings, such as the templates that a prompt was made from."""
    key = ""
    for line in lines:
        name, text = settings_line.key_of(line)
        if name:
            key = name
        elif text:
            key, text = key or "Below the settings", line.strip()
        if text:
            draft.unknown[key] = f"{draft.unknown[key]}\n{text}" if key in draft.unknown else text
    if key:
        draft.notes.append("The lines below the settings were left out.")


def _prompts(lines: list[str]) -> tuple[str, str]:
    mark = f"{NEGATIVE}:"
    at = next((at for at, line in enumerate(lines) if line.lstrip().startswith(mark)), len(lines))
    negative = "\n".join(lines[at:]).lstrip().removeprefix(mark).removeprefix(" ")
    return "\n".join(lines[:at]), negative


def _normal(pairs: dict[str, str]) -> dict[str, str]:
    """Turn `Size: 512x768` and `Sampler: DPM++ 2M Karras` into the two pairs each stands for."""
    pairs = dict(pairs)
    for key in _SIZES:
        if size := _SIZE.fullmatch(pairs.get(key, "")):
            del pairs[key]
            pairs |= {f"{key}-1": size[1], f"{key}-2": size[2]}
    if "Schedule type" in pairs:
        pairs["Schedule type"] = spelled(pairs["Schedule type"])
    elif "Sampler" in pairs:
        sampler, schedule = schedule_behind(pairs["Sampler"])
        pairs |= {"Sampler": sampler, "Schedule type": schedule} if schedule else {}
    return pairs
