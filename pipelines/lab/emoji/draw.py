"""Make emoji.webp and index.json again: python -m pipelines.lab.emoji.draw

Needs what the embedded model's recipe needs (npm and resvg-py), once; nothing of this runs when the set is used.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.demo import data
from pipelines.demo.config import default_cache_dir

SIDE, COLUMNS, STYLE = 32, 32, "fluent flat"


def main(folder: Path = Path(__file__).parent) -> None:
    """Draw the sheet into a folder."""
    cache = default_cache_dir()
    drawings, concepts = data.draw_all(cache)
    package = data.fetch(cache)[data.NAMES[0]]
    names = data._read_json(package, "meta/groups.json")["groups"]
    groups = {data._plain(one["hexcode"]): names[str(one["group"])]
              for one in data._read_json(package, "en/data.json") if one.get("group") is not None}
    rows = -(-len(concepts) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), "white")
    for i, drawing in enumerate(drawings[:, data.STYLES.index(STYLE)]):
        small = Image.fromarray(np.asarray(drawing), "RGBa").resize((SIDE, SIDE), Image.Resampling.BOX).convert("RGBA")
        sheet.paste(small, (i % COLUMNS * SIDE, i // COLUMNS * SIDE), small)
    rounded = np.asarray(sheet).astype(float) / 255 * 31
    Image.fromarray((rounded.round() / 31 * 255).round().astype(np.uint8)).save(
        folder / "emoji.webp", lossless=True, quality=100, method=6)
    listed = [[groups[one.code], one.name] for one in concepts]
    (folder / "index.json").write_text(json.dumps(listed, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
