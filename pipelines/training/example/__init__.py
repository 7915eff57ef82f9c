"""The example dataset: emoji as black ink drawings, a style that the embedded model was not taught.

`drawings` are trained on. `held_out` show other things in the same style, to judge a style by what it was not shown.
Drawn from @iconify-json/fluent-emoji-high-contrast (Microsoft, MIT: see LICENSE) by draw.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

DRAWINGS = Path(__file__).parent / "drawings"
HELD_OUT = Path(__file__).parent / "held_out"
STYLE = "ink style"


def copy(folder: Path) -> int:
    """Copy the drawings and their captions into a folder; returns how many drawings."""
    shutil.copytree(DRAWINGS, folder, dirs_exist_ok=True)
    return len(list(DRAWINGS.glob("*.png")))


def held_out() -> dict[str, Path]:
    """Caption -> drawing of the things that are not among the drawings to train on."""
    return {path.with_suffix(".txt").read_text("utf-8").strip(): path for path in sorted(HELD_OUT.glob("*.png"))}
