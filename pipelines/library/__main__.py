"""python -m pipelines.library convert FILE.ckpt ...: write pickles anew as safetensors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import ModelError
from .convert import rewrite


def main() -> int:
    """Convert each file that is named; 1 when one of them could not be."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.library", description="Look after model files.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "convert", help="write .ckpt, .pt and .bin files anew as .safetensors, beside them",
        description="Loads nothing but weights, so that no program in a file runs. The old files stay.")
    command.add_argument("files", nargs="+", type=Path, metavar="FILE")
    failed = False
    for path in parser.parse_args().files:
        try:
            print(f"{path.name} -> {rewrite(path).name}")
        except ModelError as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
