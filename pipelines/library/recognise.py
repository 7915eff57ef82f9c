"""One file or folder -> what it is. The content decides: names and folders mean nothing, except for pickles, which
nobody may open."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..families.family import UNET_PREFIX
from . import sidecars
from .embedding_layout import WIDTHS, Layout, layout_of, tokens, vectors_in
from .read import lora_keys
from .read.card import PICKLES, VAE_PREFIX, ModelCard, read_file, read_folder, read_json, refuse_pickle
from .read.headers import Header, raw_header, read_header, small_tensor
from .sidecars import Said
from .walk import Item

# A tensor that every autoencoder of a layout has, and the one whose second axis is the latent channels.
VAES = {"original": ("decoder.mid.block_1.conv1.weight", "decoder.conv_in.weight"),
        "diffusers": ("decoder.mid_block.resnets.0.conv1.weight", "decoder.conv_in.weight"),
        "tiny": ("decoder.layers.2.conv.0.weight", "decoder.layers.0.weight")}
LATENT_CHANNELS = 4
SCALING_FAMILIES = {0.18215: "sd15", 0.13025: "sdxl"}
# Where a file of a folder's kind was to be expected, and is none.
WANTED = {"checkpoint": "no checkpoint", "lora": "no LoRA", "vae": "no autoencoder of pictures",
          "embedding": "no embedding"}
# Told wherever they lie; the other kinds that are not read are no adapters, and told only where a LoRA is expected.
ADAPTERS_NOT_READ = ("OFT", "BOFT", "VeRA", "VB-LoRA", "FourierFT", "HRA", "Bone", "MiSS", "RandLoRA", "C3A", "SHiRA")
OFFSETS = re.compile(rb'"data_offsets":\s*\[\s*(\d{1,19})\s*,\s*(\d{1,19})\s*\]')
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "F8_E4M3": "float8",
          "F8_E5M2": "float8"}


@dataclass(frozen=True)
class Finding:
    """What was read of a file; only plain values, so that it can be kept as JSON.

    kind: a key of KINDS, or "" for what is none of our business. family: key of FAMILIES, or words for another kind of
    model, or "" when nothing tells. format: in words. facts: the kind's own: ranks, alpha and alias; vectors and
    widths; layout and latent_channels. fault: why it cannot be used. card: a checkpoint's ModelCard without its name.
    body_hash: as its maker wrote it.
    """

    kind: str
    family: str = ""
    format: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    card: dict[str, Any] | None = None
    said: Said = Said()
    body_hash: str = ""


def recognise(item: Item) -> Finding:
    """Tell what a file or folder is. Never raises for what is wrong with it: that is the finding's fault."""
    try:
        return _read(item)
    except ModelError as error:
        return Finding(item.folder_kind or "checkpoint", format=_damaged(item), fault=str(error))
    except OSError as error:  # a file that vanished or may not be read
        reason = error.strerror or "the disk does not answer"
        return Finding("checkpoint", fault=f"{item.path.name[:80]} cannot be read: {reason}.")


def may_be_checkpoint(item: Item) -> bool:
    """Whether an item could be a checkpoint, or is damaged, at a glance: its header is searched and not parsed."""
    if item.path.suffix.lower() != ".safetensors":
        return item.folder_kind in ("", "checkpoint")
    try:
        raw = raw_header(item.path)
    except (ModelError, OSError):
        return True
    ranges = OFFSETS.findall(raw)
    whole = ranges and sum(int(end) - int(begin) for begin, end in ranges) == item.size_bytes - 8 - len(raw)
    return not whole or f'"{UNET_PREFIX}'.encode() in raw


def card_of(finding: Finding, name: str) -> ModelCard:
    """The card that was kept, under a name."""
    kept = finding.card
    return ModelCard(**{**kept, "name": name, "title": kept["title"] or name, "path": Path(kept["path"]),
                        "tasks": tuple(kept["tasks"]), "examples": tuple(kept["examples"])})


def vae_layout(header: Header) -> str:
    """"original", "diffusers" or "tiny"; "" for a file that is no autoencoder of pictures."""
    for prefix in ("", VAE_PREFIX):
        for layout, names in VAES.items():
            # Convolutions over height and width; an autoencoder of films has one axis more.
            if all(len(header.shapes.get(prefix + name, ())) == 4 for name in names):
                return layout
    return ""


def _read(item: Item) -> Finding:
    path = item.path
    if item.is_folder:
        card = read_folder(path, "", "hub" if item.place.hub else "folder")
        return Finding("checkpoint", card.family, "diffusers folder", card=_kept(card))
    refuse_pickle(path)
    header = read_header(path)
    said = sidecars.read(item.notes, header.metadata)
    common = {"format": _format(header), "said": said, "body_hash": _body_hash(header)}
    if any(name.startswith(UNET_PREFIX) for name in header.shapes):
        card = read_file(path, "")
        return Finding("checkpoint", card.family, card=_kept(card), **common)
    if lora_keys.is_adapter(header.shapes):
        return _lora(header, common)
    if vae := vae_layout(header):
        return _vae(path, header, vae, common)
    if layout := layout_of(header):
        return _embedding(header, layout, common)
    kinds = lora_keys.not_read(header.shapes)
    if item.folder_kind or any(kind in kinds for kind in ADAPTERS_NOT_READ):
        fault = lora_keys.refusal(path.name[:80], header.shapes, WANTED.get(item.folder_kind, ""))
        return Finding(item.folder_kind or "lora", fault=fault, **common)
    return Finding("")


def _lora(header: Header, common: Mapping[str, object]) -> Finding:
    try:
        facts = {"ranks": list(lora_keys.ranks(header)), "alpha": _alpha(header),
                 "alias": header.metadata.get("ss_output_name", "")[:200]}
    except ModelError as error:
        return Finding("lora", fault=str(error), **common)
    unused = [*lora_keys.not_read(header.shapes), *lora_keys.bundled(header.shapes)]
    facts = {**facts, "unused": unused} if unused else facts
    return Finding("lora", lora_keys.family_of(header), facts=facts, **common)


def _embedding(header: Header, layout: Layout, common: Mapping[str, object]) -> Finding:
    first = next(iter(layout.words.values()))
    widths = [header.shapes[first[side]][-1] for side in sorted(first)]
    counts = {word: vectors_in(header, next(iter(sides.values()))) for word, sides in layout.words.items()}
    facts = {"vectors": sum(counts.values()), "widths": widths,
             "words": {word: counts[word] for word in tokens(layout)}, "unused": list(layout.unused)}
    return Finding("embedding", WIDTHS.get(tuple(widths), ""),
                   facts={name: value for name, value in facts.items() if value}, **common)


def _vae(path: Path, header: Header, layout: str, common: Mapping[str, object]) -> Finding:
    """The shapes of 1.x and XL autoencoders are the same; only a config beside the file tells them apart."""
    config = read_json(path.parent / "config.json") if (path.parent / "config.json").is_file() else {}
    family = SCALING_FAMILIES.get(config.get("scaling_factor"), "") if layout != "tiny" else ""
    name = VAES[layout][1]
    channels = header.shapes.get(name, header.shapes.get(VAE_PREFIX + name))[1]
    fault = "" if channels == LATENT_CHANNELS else (
        f"{path.name[:80]} cannot be used: it is an autoencoder of {channels} latent channels, and the models here "
        f"have {LATENT_CHANNELS}.")
    return Finding("vae", family, facts={"layout": layout, "latent_channels": channels}, fault=fault, **common)


def _alpha(header: Header) -> float:
    """Of one layer of a LoRA: the others of a file seldom differ. 0 when it is not said."""
    key = next((key for key in header.shapes if key.endswith(".alpha")), None)
    try:
        value = small_tensor(header, key) if key else None
    except ModelError:  # an unusual number format; reading the file will say more
        return 0.0
    return float(value.flat[0]) if value is not None and value.size == 1 else 0.0


def _kept(card: ModelCard) -> dict[str, object]:
    return {**{one.name: getattr(card, one.name) for one in dataclasses.fields(card)}, "path": str(card.path),
            "scheduler": dict(card.scheduler)}


def _format(header: Header) -> str:
    sizes: Counter[str] = Counter()
    for name, (begin, end) in header.offsets.items():
        sizes[header.dtypes[name]] += end - begin
    common = sizes.most_common(1)[0][0] if sizes else ""
    return f"safetensors, {DTYPES.get(common, common.lower())}" if common else "safetensors"


def _damaged(item: Item) -> str:
    return ("diffusers folder" if item.is_folder else
            "pickle" if item.path.suffix.lower() in PICKLES else "safetensors")


def _body_hash(header: Header) -> str:
    said = header.metadata.get("sshs_model_hash", "").removeprefix("0x").lower()
    return said[:12] if len(said) == 64 and all(digit in "0123456789abcdef" for digit in said) else ""
