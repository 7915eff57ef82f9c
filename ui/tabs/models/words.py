"""How a model file is told: its kind, size and facts in words, and a small picture that may be shown."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image, ImageDraw, ImageFont

from pipelines.library import KINDS
from pipelines.library.entry import LibraryEntry
from pipelines.library.preview import preview
from pipelines.library.read.card import ModelCard
from pipelines.library.read.prediction import sentence

from ...language import current, said

COLOURS = {"checkpoint": "#4f5d9e", "lora": "#3f7d6b", "vae": "#8a6a3a", "embedding": "#7a4f86"}
REFUSED = "#8c4a45"
TILE_PX = 256
KEPT = 2_000  # pictures whose place in the cache is remembered


class Pictures:
    """Small pictures of entries, written where a page may read them. One for all visitors of a page."""

    def __init__(self) -> None:
        self._paths: OrderedDict[tuple, str] = OrderedDict()

    def path(self, entry: LibraryEntry) -> str:
        """The picture beside the file, or else a plain tile that says what the file is."""
        beside = entry.preview
        own = self._kept((str(beside), _changed(beside)), lambda: preview(beside)) if beside else ""
        return own or self._kept((entry.kind, entry.family_label, bool(entry.fault), current()), lambda: _tile(entry))

    def _kept(self, key: tuple, make: Callable[[], Image.Image | None]) -> str:
        path = self._paths.get(key)
        if path is None or (path and not Path(path).exists()):  # Gradio empties its cache now and then
            image = make()
            path = save_pil_to_cache(image, get_upload_folder(), format="webp") if image else ""
            self._paths[key] = path
            while len(self._paths) > KEPT:
                self._paths.popitem(last=False)
        self._paths.move_to_end(key)
        return path


def size(size_bytes: int) -> str:
    """Such as "2.1 GB", "144 MB" or "12 kB"."""
    for unit, limit in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= limit:
            return f"{size_bytes / limit:.{1 if size_bytes < 10 * limit else 0}f} {unit}"
    return f"{max(1, round(size_bytes / 1e3))} kB"


def prediction_of(card: ModelCard | None) -> str:
    """What a person said that a checkpoint predicts, "" for nothing."""
    return card.scheduler["prediction_type"] if card and card.predicts_by == "person" else ""


def facts(entry: LibraryEntry, card: ModelCard | None = None) -> str:
    """Everything that is known of an entry, a line each. card: of a checkpoint, with what was said of it here."""
    known = entry.facts
    lines = {"Kind": KINDS[entry.kind], "Family": entry.family_label or ("" if entry.fault else "not told by the file"),
             "Size": size(entry.size_bytes), "Format": entry.format,
             "Predicts": sentence(card) if card else "",
             "Folder": entry.folder.removeprefix("."), "AutoV2": entry.auto_v2, "AutoV3": entry.auto_v3,
             "Rank": ", ".join(map(str, known.get("ranks", ()))),
             "Alpha": f"{known['alpha']:g}" if known.get("alpha") else "",
             "Also called": known.get("alias", ""), "Vectors": known.get("vectors", ""),
             "Its words": ", ".join(known.get("words", ())), "Not used of it": ", ".join(known.get("unused", ())),
             "Layout": known.get("layout", ""),
             "Strength": entry.preferred_weight if entry.preferred_weight is not None else ""}
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value != "")


def row(entry: LibraryEntry) -> list[str]:
    """A line of the table: COLUMNS."""
    return [entry.name, said(KINDS[entry.kind]), said("cannot be used") if entry.fault else entry.family_label,
            size(entry.size_bytes), entry.auto_v2 or entry.auto_v3, ", ".join(entry.trigger_words)[:80],
            entry.format.removeprefix("safetensors, ")]


COLUMNS = ("Name", "Kind", "Family", "Size", "Hash", "Trigger words", "Format")


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _tile(entry: LibraryEntry) -> Image.Image:
    image = Image.new("RGB", (TILE_PX, TILE_PX), REFUSED if entry.fault else COLOURS[entry.kind])
    draw = ImageDraw.Draw(image)
    below = said("cannot be used") if entry.fault else entry.family_label
    for text, height, points in ((said(KINDS[entry.kind]), 118, 34), (below, 152, 18)):
        draw.text((TILE_PX / 2, height), text[:24], "white", ImageFont.load_default(points), anchor="mm")
    return image
