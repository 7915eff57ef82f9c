"""Tiny sets of pictures to learn from: scikit-learn's digits, emoji in seven groups, or a folder of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import RequestError, quoted
from ..images.convert import convert, flatten
from ..images.files import SHOWN, SUFFIXES
from ..training.dataset.captions import NO_CAPTION, Caption, Captions
from ..training.dataset.listing import TABLES, TEXTS, File, Listing, read_listing
from ..training.dataset.tables import match, read_tables

EMOJI_SIDE = 32
DEFAULT_SIDE = 32
SMALLEST_PX = 8
MAX_CAPTION = 1000
MAX_PICTURES = 20_000
ANY = "any"
HUB = "hub:"  # before a data set's id


@dataclass(frozen=True)
class TinySet:
    """Pictures in memory.

    pixels: (n, c, h, w) float32 in -1..1. labels: (n,) indices into classes, which may be (). captions: (n,) or ().
    """

    name: str
    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    notices: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def side(self) -> int:
        return self.pixels.shape[-1]

    def contexts(self, indices: Tensor) -> Tensor | None:
        """One-hot class weights (b, classes), or None for a set without classes."""
        if not self.classes:
            return None
        return torch.nn.functional.one_hot(self.labels[indices], len(self.classes)).float()

    @property
    def context_width(self) -> int:
        """Numbers in one context; 0 without."""
        return len(self.classes)

    @property
    def nothing(self) -> Tensor:
        """The context that says nothing."""
        return torch.zeros(self.context_width)

    def examples(self, count: int) -> Tensor | None:
        """Contexts to draw samples of: one class after the other."""
        if not self.classes:
            return None
        return torch.nn.functional.one_hot(torch.arange(count) % len(self.classes), len(self.classes)).float()


def load(name: str, side: int | None = None) -> TinySet:
    """A set by name ("digits", "emoji", or one class of it: "digits:3", "digits:any"), or by folder.

    side: pixels; None keeps the set's own (folders: 32).
    """
    own, _, label = name.partition(":")
    if own not in SETS:
        return folder(Path(name), side or DEFAULT_SIDE)
    tiny = _resized(SETS[own](), side)
    return only(tiny, label) if label else tiny


def only(tiny: TinySet, label: str) -> TinySet:
    """The pictures of one class, or of "any", as a set without classes."""
    if label == ANY:
        return replace(tiny, labels=torch.zeros_like(tiny.labels), classes=())
    if label not in tiny.classes:
        raise RequestError(f"Data: {tiny.name} has no class {quoted(label)}. It has {', '.join(tiny.classes)}.", "data")
    chosen = (tiny.labels == tiny.classes.index(label)).nonzero()[:, 0]
    captions = tuple(tiny.captions[i] for i in chosen.tolist()) if tiny.captions else ()
    return TinySet(f"{tiny.name}:{label}", tiny.pixels[chosen], torch.zeros(len(chosen), dtype=torch.long), (),
                   tiny.notices, captions)


def digits() -> TinySet:
    """1,797 handwritten digits, 8x8, bright on dark: (n, 1, 8, 8).

    Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI (CC BY 4.0), as scikit-learn ships it.
    """
    from sklearn.datasets import load_digits

    table = load_digits()
    pixels = torch.from_numpy(table.images).float()[:, None] / 8 - 1
    return TinySet("digits", pixels, torch.from_numpy(table.target).long(), tuple("0123456789"))


def emoji() -> TinySet:
    """1,244 emoji on white in seven groups, such as food-drink: (n, 3, 32, 32)."""
    here = Path(__file__).parent / "emoji"
    index = json.loads((here / "index.json").read_text("utf-8"))
    sheet = np.array(Image.open(here / "emoji.webp").convert("RGB"))
    rows, columns = (length // EMOJI_SIDE for length in sheet.shape[:2])
    tiles = sheet.reshape(rows, EMOJI_SIDE, columns, EMOJI_SIDE, 3).transpose(0, 2, 1, 3, 4)
    tiles = tiles.reshape(-1, EMOJI_SIDE, EMOJI_SIDE, 3)[:len(index)]
    classes = tuple(dict.fromkeys(group for group, _ in index))
    labels = torch.tensor([classes.index(group) for group, _ in index])
    captions = tuple(f"a {name}" for _, name in index)
    return TinySet("emoji", pixels_of(tiles), labels, classes, captions=captions)


def folder(path: Path, side: int) -> TinySet:
    """The pictures of a folder, cut to squares: (n, 3, side, side). Subfolders, where there are any, are the classes.

    Captions are read as a training run reads them; of several, the first counts. Raises RequestError for a missing or
    empty folder, a single picture, and pictures below 8 px. Files that are neither pictures nor captions are passed
    over; damaged ones too, with a notice.
    """
    if not path.is_dir():
        raise RequestError("Data: there is no such folder. Give digits, emoji or a folder of pictures.", "data")
    listing = read_listing(path)
    files = sorted(listing.of(SUFFIXES), key=lambda one: one.path)
    if len(files) > MAX_PICTURES:
        raise RequestError(f"Data: the folder holds {len(files)} pictures; the limit is {MAX_PICTURES}.", "data")
    captions_of, told = _captions(listing, files)
    tiles, names, captions, damaged = [], [], [], []
    for file in files:
        try:
            image = flatten(convert(file.path)[0])
        except RequestError:
            damaged.append(file.name)
            continue
        if min(image.size) < SMALLEST_PX:
            raise RequestError(f"Data: {file.name} has {image.width} x {image.height} px. A picture needs at least "
                               f"{SMALLEST_PX} px a side.", "data")
        tiles.append(square(image, side))
        names.append(file.name.partition("/")[0] if "/" in file.name else "other")
        captions.append(captions_of[file.path])
    if len(tiles) < 2:
        found = "no pictures" if not tiles else "only one picture"
        raise RequestError(f"Data: the folder holds {found} ({SHOWN}). At least 2 are needed, and some "
                           "hundred to learn anything but these by heart.", "data")
    classes = tuple(sorted(set(names)))
    classes = classes if len(classes) > 1 else ()
    labels = torch.tensor([classes.index(name) for name in names] if classes else [0] * len(names))
    notices = (f"{len(damaged)} files cannot be read and are left out: {', '.join(damaged[:3])}.",) if damaged else ()
    captions = tuple(captions) if any(captions) else ()
    return TinySet("folder", pixels_of(np.stack(tiles)), labels, classes, (*notices, *told), captions)


def _captions(listing: Listing, files: list[File]) -> tuple[dict[Path, str], tuple[str, ...]]:
    """The caption of each picture, "" for none, and sentences about what surprises in them or is not used."""
    tables, notes = read_tables(listing.of(TABLES), "auto")
    rows, lost = match(tables, files)
    texts = Captions(listing.of(TEXTS), "auto")
    found: dict[Path, Caption] = {file.path: texts.read(file, rows.get(file.path, ())) for file in files}
    odd = [(file.name[:80], reason) for file in files for reason in found[file.path].reasons if reason != NO_CAPTION]
    if odd:
        name, reason = odd[0]
        notes.append(f"Captions: {len(odd)} remarks, the first on {name}: {reason}.")
    captions = {path: caption.texts[0][:MAX_CAPTION] if caption.texts else "" for path, caption in found.items()}
    return captions, (*notes, *lost)


def to_image(pixels: Tensor, enlarge: int = 1) -> Image.Image:
    """(c, h, w) in -1..1 to an 8-bit picture, grey for one channel; every pixel becomes enlarge x enlarge."""
    levels = ((pixels.float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    return image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST)


def split(count: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices to learn from, and `share` of them held out; a share above 0 holds out at least one."""
    order = torch.randperm(count, generator=generator)
    held_out = min(count - 1, max(1, round(count * share))) if share > 0 else 0
    return order[held_out:], order[:held_out]


def pixels_of(tiles: np.ndarray) -> Tensor:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(tiles.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def square(image: Image.Image, side: int) -> np.ndarray:
    """The largest square in the middle, at side x side."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    square = image.crop((left, top, left + edge, top + edge))
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def _resized(tiny: TinySet, side: int | None) -> TinySet:
    if side is None or side == tiny.side:
        return tiny
    pixels = torch.nn.functional.interpolate(tiny.pixels, (side, side), mode="bilinear", antialias=True)
    return replace(tiny, pixels=pixels)


SETS = {"digits": digits, "emoji": emoji}
