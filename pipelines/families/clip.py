"""CLIP's vocabulary (Radford et al. 2021, arXiv:2103.00020), shipped as its byte pairs: single files carry none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
START, END = "<|startoftext|>", "<|endoftext|>"


def write_vocabulary(folder: Path) -> None:
    """Write vocab.json (49,408 tokens) and merges.txt as CLIPTokenizer reads them, each complete or not at all."""
    merges = gzip.decompress((CONFIGS / "clip" / "merges.txt.gz").read_bytes()).decode()
    symbols = _byte_symbols()
    joined = [line.replace(" ", "") for line in merges.splitlines()[1:]]  # the first line is a version
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *joined, START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    for name, text in (("merges.txt", merges), ("vocab.json", vocabulary)):
        half = folder / f"{name}.new"
        half.write_text(text, encoding="utf-8")
        half.replace(folder / name)


def _byte_symbols() -> list[str]:
    """Characters that stand for the 256 bytes, in CLIP's order: printable ones for themselves, the rest from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [chr(256 + i) for i in range(256 - len(printable))]
    return [chr(byte) for byte in printable] + others
