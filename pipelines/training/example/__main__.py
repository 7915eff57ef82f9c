"""python -m pipelines.training.example FOLDER: copy the example dataset, with a config beside it."""

from __future__ import annotations

import sys
from pathlib import Path

from . import copy

CONFIG = """model = "demo"
data = "{data}"
output = "."
name = "ink"
goal = "style"
length = "fast"
"""


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if argv == ["--help"] else 2
    folder = Path(argv[0]).absolute()
    count = copy(folder)
    config = folder.with_name(f"{folder.name}.toml")
    if not config.exists():
        config.write_text(CONFIG.format(data=folder.name), encoding="utf-8")
    print(f"{count} drawings in {folder.name}. Train with: python -m pipelines.training {config}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
