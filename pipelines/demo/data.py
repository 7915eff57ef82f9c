"""Drawings and captions: npm packages -> SVG -> RGBA arrays -> pictures on plain backgrounds with captions.

Four emoji sets draw the same concepts in four styles; emojibase names them. Nothing else is learned from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

# style -> (package, version, licence); the order is the order of the axis in the drawings' array
SETS = {
    "noto": ("@iconify-json/noto", "1.2.9", "Apache-2.0"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0"),
    "fluent": ("@iconify-json/fluent-emoji", "1.2.7", "MIT"),
    "fluent flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT"),
}
NAMES = ("emojibase-data", "17.0.0", "MIT")
STYLES = tuple(SETS)

COLOURS = {
    "white": (255, 255, 255), "black": (20, 20, 20), "red": (220, 45, 45), "orange": (245, 140, 35),
    "yellow": (250, 215, 55), "green": (65, 170, 75), "blue": (55, 105, 220), "purple": (140, 75, 190),
    "pink": (250, 160, 200), "gray": (150, 150, 150),
}
DRAWING_PX = 128
SCALE = (0.62, 0.96)      # of the frame: the sizes at which drawings are placed


class DataError(RuntimeError):
    """What cannot be fetched or read, in one line that says what to do by hand."""


@dataclasses.dataclass(frozen=True)
class Concept:
    """One thing that all four sets draw. tags: words that belong to this concept and to no other that is taught."""

    name: str
    code: str
    tags: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        return self.name.removesuffix(" face")


# ---------------------------------------------------------------------------------------------------------- packages
def fetch(cache: Path) -> dict[str, Path]:
    """Return {package name: its .tgz in `cache`/npm}, fetching what is missing or broken with `npm pack`."""
    folder = cache / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, version, _ in (*SETS.values(), NAMES):
        path = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
        if not _readable(path):
            path.unlink(missing_ok=True)
            hand = f"fetch it by hand with `npm pack {name}@{version}` and put {path.name} into {folder}"
            npm = shutil.which("npm")
            if npm is None:
                raise DataError(f"{name}: npm is not installed; {hand}")
            done = subprocess.run([npm, "pack", "--silent", f"{name}@{version}"], cwd=folder, capture_output=True)
            if done.returncode or not _readable(path):
                raise DataError(f"{name}: not to be had (no network, or no such package); {hand}")
        found[name] = path
    return found


def _readable(path: Path) -> bool:
    try:
        with tarfile.open(path) as tar:
            return sum(1 for _ in tar) > 0
    except (OSError, tarfile.TarError, EOFError):
        return False


def _read_json(package: Path, member: str):
    with tarfile.open(package) as tar:
        return json.load(tar.extractfile(f"package/{member}"))


# ------------------------------------------------------------------------------------------------------------ drawing
def draw_all(cache: Path, log=print) -> tuple[np.ndarray, list[Concept]]:
    """Draw every concept in every style once; later calls read the cache, a damaged one is drawn again.

    Returns (n, 4, 128, 128, 4) uint8 RGBA with premultiplied alpha, memory-mapped, and the n concepts in teaching
    order: those of concepts.txt first. No people, no flags.
    """
    array_path, index_path = cache / "drawings.npy", cache / "drawings.json"
    try:
        index = json.loads(index_path.read_text())
        if index["key"] == _drawings_key() and index["sha256"] == _sha256(array_path):
            return np.load(array_path, mmap_mode="r"), [Concept(c[0], c[1], tuple(c[2])) for c in index["concepts"]]
        log("drawings: the cache is damaged or of another version; drawing again")
    except (OSError, ValueError, KeyError, IndexError):
        pass

    packages = fetch(cache)
    concepts, bodies = _collect(packages)
    log(f"drawings: {len(concepts)} concepts in {len(STYLES)} styles")
    array = np.stack([np.stack([rasterise(svg) for svg in row]) for row in bodies])
    with open(tmp := array_path.with_suffix(".tmp"), "wb") as file:
        np.save(file, array)
    os.replace(tmp, array_path)
    write_atomic(index_path, json.dumps({
        "key": _drawings_key(), "sha256": _sha256(array_path),
        "concepts": [[c.name, c.code, list(c.tags)] for c in concepts]}).encode())
    return np.load(array_path, mmap_mode="r"), concepts


def _drawings_key() -> str:
    return json.dumps([SETS, NAMES, DRAWING_PX, _teaching_order()])


def _teaching_order() -> list[str]:
    lines = (Path(__file__).parent / "concepts.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _collect(packages: dict[str, Path]) -> tuple[list[Concept], list[list[str]]]:
    """Read the packages: concepts in teaching order and, for each, its SVG in the four styles."""
    emoji = _read_json(packages[NAMES[0]], "en/data.json")
    groups = _read_json(packages[NAMES[0]], "meta/groups.json")["groups"]
    left_out = {int(k) for k, v in groups.items() if v in ("people-body", "component", "flags")}
    icons, chars = {}, {}
    for style, (package, _, _) in SETS.items():
        icons[style] = _read_json(packages[package], "icons.json")
        chars[style] = {_plain(code): name for code, name in _read_json(packages[package], "chars.json").items()}
    # the 3D set lists no code points; its icon names are those of the flat set
    chars["fluent"] = chars["fluent"] or chars["fluent flat"]

    rows: dict[str, tuple[Concept, list[str]]] = {}
    for one in emoji:
        code = _plain(one["hexcode"])
        if one.get("group") is None or one["group"] in left_out:
            continue
        svgs = [_svg(icons[style], chars[style].get(code)) for style in STYLES]
        name = one["label"].lower()
        if all(svgs) and name not in rows:
            rows[name] = Concept(name, code, tuple(t.lower() for t in one.get("tags", ()))), svgs
    first = [name for name in _teaching_order() if name in rows]
    order = first + [name for name in rows if name not in set(first)]
    return [rows[name][0] for name in order], [rows[name][1] for name in order]


def _plain(code: str) -> str:
    """Code points without the variation selector, which the sets write or leave out as they like."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def _svg(collection: dict, name: str | None) -> str | None:
    icon = collection["icons"].get(name)
    if icon is None:
        return None
    size = [icon.get(k, collection.get(k, default)) for k, default in
            (("left", 0), ("top", 0), ("width", 16), ("height", 16))]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{" ".join(map(str, size))}">{icon["body"]}</svg>')


def rasterise(svg: str) -> np.ndarray:
    """Draw an SVG: (128, 128, 4) uint8 RGBA, alpha premultiplied so that it can be resized without dark rims."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=DRAWING_PX, height=DRAWING_PX, skip_system_fonts=True)
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    if image.size != (DRAWING_PX, DRAWING_PX):      # an icon that is not square
        square = Image.new("RGBA", (DRAWING_PX, DRAWING_PX))
        image.thumbnail(square.size)
        square.paste(image, ((DRAWING_PX - image.width) // 2, (DRAWING_PX - image.height) // 2))
        image = square
    return np.asarray(image.convert("RGBa"))


# --------------------------------------------------------------------------------------------------------- pictures
def background(colour: tuple[int, int, int], size_px: int, rng: random.Random, gradients: float) -> np.ndarray:
    """A plain background of nearly `colour`, or with probability `gradients` one that fades: (h, w, 3) float32."""
    base = np.array([min(255, max(0, c + rng.uniform(-6, 6))) for c in colour], np.float32)
    plain = np.broadcast_to(base, (size_px, size_px, 3)).copy()
    if rng.random() >= gradients:
        return plain
    ramp = np.linspace(-1, 1, size_px, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    fade = (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])[..., None]
    return np.clip(plain * (1 + 0.22 * fade), 0, 255)


def compose(drawing: np.ndarray, colour: tuple[int, int, int], rng: random.Random, size_px: int = 128,
            scale: tuple[float, float] = SCALE, gradients: float = 0.1) -> np.ndarray:
    """Place a premultiplied RGBA drawing (h, w, 4) on a background: (size, size, 3) uint8.

    The drawing keeps inside the frame: the free margin is shared out at random, so smaller drawings wander further.
    """
    side = round(size_px * rng.uniform(*scale))
    small = np.asarray(Image.fromarray(drawing, "RGBa").resize((side, side), Image.Resampling.BILINEAR), np.float32)
    picture = background(colour, size_px, rng, gradients)
    free = size_px - side
    x, y = (round(free * (0.5 + rng.uniform(-0.5, 0.5))) for _ in range(2))
    patch = picture[y:y + side, x:x + side]
    patch *= 1 - small[..., 3:] / 255
    patch += small[..., :3]
    return picture.clip(0, 255).round().astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------- captions
def all_texts(concepts: list[Concept]) -> list[str]:
    """Words for the tokenizer: every name and tag, and what the captions put around them."""
    texts = [text for c in concepts for text in (c.name, c.name, c.name, *c.tags)]
    return texts + [full_caption("", style, colour) for style in STYLES for colour in COLOURS] * 20


def taught(concepts: list[Concept], count: int) -> list[Concept]:
    """The first `count` concepts, each with only those tags (two at most) that are no other one's tag or name."""
    chosen = concepts[:count]
    owners: dict[str, int] = {}
    for c in chosen:
        for word in {*c.tags, c.name, c.short}:
            owners[word] = owners.get(word, 0) + 1
    return [dataclasses.replace(c, tags=tuple(
        [t for t in c.tags if owners[t] == 1 and t not in (c.name, c.short) and len(t) > 2][:2])) for c in chosen]


def full_caption(name: str, style: str, colour: str) -> str:
    return f"a {name}, {style} style, {colour} background"


@dataclasses.dataclass(frozen=True)
class Caption:
    """A text and what it says; None where it says nothing of it."""

    text: str
    concept: str | None = None
    style: str | None = None
    colour: str | None = None


def caption(concept: Concept, style: str, colour: str, rng: random.Random, empty: float = 0.1) -> Caption:
    """One of the ways in which a person may ask for this picture; empty with probability `empty`."""
    if rng.random() < empty:
        return Caption("")
    name = concept.name
    pick = rng.random()
    if pick < 0.25 and concept.short != name:
        name = concept.short
    elif pick > 0.85 and concept.tags:
        name = rng.choice(concept.tags)
    form = rng.random()
    if form < 0.78:
        return Caption(full_caption(name, style, colour), concept.name, style, colour)
    article = "an" if name[0] in "aeiou" else "a"
    if form < 0.87:
        return Caption(f"{article} {name}, {colour} background", concept.name, None, colour)
    if form < 0.92:
        return Caption(f"{article} {name}, {style} style", concept.name, style)
    return Caption(f"{article} {name}" if form < 0.97 else name, concept.name)


def held_out_pairs(concepts: list[Concept], share: float) -> set[tuple[str, str]]:
    """(concept, style) pairs that the UNet never sees: a fixed draw by hash, at most one style of a concept."""
    pairs = set()
    for c in concepts:
        digest = hashlib.sha256(c.code.encode()).digest()
        if int.from_bytes(digest[:4], "big") / 2 ** 32 < share * len(STYLES):
            pairs.add((c.name, STYLES[digest[4] % len(STYLES)]))
    return pairs


# -------------------------------------------------------------------------------------------------------------- files
def write_atomic(path: Path, data: bytes) -> None:
    """Write so that a kill leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(path.name + ".tmp")
    tmp.write_bytes(data)
    os.replace(tmp, path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
