"""Recognise what a picture shows: the nearest of the vocabulary's drawings, and the nearest named background.

Pictures are compared at 32x32 in CIE Lab after their plain background is taken away. The drawings come from
references.png beside the model (32x32 RGBA each, a row for each concept, a column for each style), so nothing has to
be fetched.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE = 32
SCALES = (0.62, 0.70, 0.78, 0.86, 0.94, 1.0)     # of the frame: what the drawings are tried at
REACH = 3                                        # shifts tried, in cells of the 32x32 picture


def lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..255 -> CIE Lab (..., 3), D65 (IEC 61966-2-1, CIE 15)."""
    c = np.asarray(rgb, np.float32) / 255
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = c @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]], np.float32)
    xyz = xyz / np.array([0.9505, 1.0, 1.089], np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


def small(picture: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 -> (32, 32, 3) Lab."""
    return lab(np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)))


def border(picture: np.ndarray) -> np.ndarray:
    """Lab (32, 32, 3) -> (3,): the median of the outermost cells, which is the background where that is plain."""
    edge = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    return np.median(edge, axis=0)


@dataclasses.dataclass(frozen=True)
class Match:
    """concepts: indices, nearest first. style: nearest set among the drawings of `asked`, or of the nearest one."""

    concepts: np.ndarray
    style: int
    colour: int


class References:
    """The vocabulary's drawings at every scale, ready to be compared with pictures on any named background."""

    def __init__(self, sheet: np.ndarray, colours: np.ndarray):
        """sheet: (concepts, styles, 32, 32, 4) uint8 RGBA, straight alpha. colours: (colours, 3) RGB."""
        self.shape = sheet.shape[:2]
        flat = [Image.fromarray(one, "RGBA").convert("RGBa") for one in sheet.reshape(-1, SIDE, SIDE, 4)]
        alphas, labs = [], []
        for scale in SCALES:
            side, at = round(SIDE * scale), (SIDE - round(SIDE * scale)) // 2
            for image in flat:
                frame = np.zeros((SIDE, SIDE, 4), np.float32)
                frame[at:at + side, at:at + side] = np.asarray(image.resize((side, side), Image.Resampling.BOX))
                alpha = frame[..., 3:] / 255
                alphas.append(alpha)
                labs.append(lab(np.clip(frame[..., :3] / np.maximum(alpha, 1 / 255), 0, 255)))
        self.alpha, self.lab = np.stack(alphas), np.stack(labs)
        self.colours_lab = lab(colours)
        self._on: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @classmethod
    def load(cls, folder: Path) -> References:
        """Read references.png and vocabulary.json of `folder`."""
        vocabulary = json.loads((folder / "vocabulary.json").read_text())
        sheet = np.asarray(Image.open(folder / "references.png").convert("RGBA"))
        count, styles = len(vocabulary["concepts"]), len(vocabulary["styles"])
        columns = sheet.shape[1] // (SIDE * styles)
        sheet = sheet.reshape(-1, SIDE, columns, styles, SIDE, 4).transpose(0, 2, 3, 1, 4, 5)
        return cls(sheet.reshape(-1, styles, SIDE, SIDE, 4)[:count],
                   np.array(list(vocabulary["colours"].values())))

    def on(self, colour: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Drawings minus the background `colour`, (scales * concepts * styles, 3072), and their squared lengths."""
        if colour not in self._on:
            rows = torch.from_numpy((self.alpha * (self.lab - self.colours_lab[colour])).reshape(len(self.alpha), -1))
            self._on[colour] = rows, rows.square().sum(1)
        return self._on[colour]

    def lightness(self, style: int, colour: int) -> np.ndarray:
        """L of a style's drawings on the background `colour`, each filling its frame: (concepts, 1024)."""
        full = np.arange(len(self.alpha))[-self.shape[0] * self.shape[1]:][style::self.shape[1]]
        ground = self.colours_lab[colour][0]
        return (ground + self.alpha[full, ..., 0] * (self.lab[full, ..., 0] - ground)).reshape(self.shape[0], -1)

    def match(self, picture: np.ndarray, asked: int | None = None) -> Match:
        """Find the nearest drawings to an RGB picture (h, w, 3) uint8; asked: index of the concept asked for."""
        query = small(picture)
        ground = border(query)
        colour = int(((self.colours_lab - ground) ** 2).sum(1).argmin())
        rows, lengths = self.on(colour)
        rest = query - ground
        there = (rest ** 2).sum(-1) > 12 ** 2
        ys, xs = np.nonzero(there) if there.any() else (np.array([16]), np.array([16]))
        dy, dx = (round((SIDE - 1) / 2 - (v.min() + v.max()) / 2) for v in (ys, xs))
        moved = torch.from_numpy(np.stack([
            _shift(rest, dy + j, dx + i).reshape(-1) for j in range(-REACH, REACH + 1)
            for i in range(-REACH, REACH + 1)]))
        distance = moved.square().sum(1)[:, None] + lengths[None] - 2 * moved @ rows.T
        best = distance.amin(0).view(len(SCALES), *self.shape).amin(0)      # (concepts, styles)
        order = best.amin(1).argsort().numpy()
        return Match(order, int(best[order[0] if asked is None else asked].argmin()), colour)


def _shift(x: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Move (h, w, c) by whole cells; what comes in from outside is 0."""
    out = np.zeros_like(x)
    h, w = x.shape[:2]
    if abs(dy) >= h or abs(dx) >= w:
        return out
    out[max(dy, 0):h + min(dy, 0), max(dx, 0):w + min(dx, 0)] = \
        x[max(-dy, 0):h + min(-dy, 0), max(-dx, 0):w + min(-dx, 0)]
    return out


def write_references(path: Path, drawings: np.ndarray, columns: int = 8) -> None:
    """Save premultiplied drawings (concepts, styles, 128, 128, 4) as one sheet of 32x32 RGBA pictures."""
    count, styles = drawings.shape[:2]
    rows = -(-count // columns)
    sheet = Image.new("RGBA", (columns * styles * SIDE, rows * SIDE))
    for i in range(count):
        for s in range(styles):
            one = Image.fromarray(np.asarray(drawings[i, s]), "RGBa").resize((SIDE, SIDE), Image.Resampling.BOX)
            sheet.paste(one.convert("RGBA"), (((i % columns) * styles + s) * SIDE, (i // columns) * SIDE))
    sheet.save(path, optimize=True)
