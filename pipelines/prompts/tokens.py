"""Count a prompt's tokens without loading a model: the `tokenizers` library alone, a few milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LIMIT = 77  # positions of CLIP's text encoder, the two marks included


@dataclass(frozen=True)
class Tokens:
    """count: tokens without the two marks. limit: how many the model reads. kept + cut is the text."""

    count: int
    limit: int
    kept: str
    cut: str


@lru_cache(maxsize=4)
def _encoding(folder: Path, mtime_ns: int):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"),
                                               end_of_word_suffix="</w>", unk_token=END, fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    pieces = Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, behavior="removed", invert=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def count(text: str, folder: Path, limit: int = LIMIT) -> Tokens:
    """Count `text` with the tokenizer in `folder` (vocab.json, merges.txt).

    The cut falls where the first token begins that the model no longer reads.
    """
    tokenizer = _encoding(folder, (folder / "vocab.json").stat().st_mtime_ns)
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    room = limit - 2
    at = offsets[room][0] if len(offsets) > room else len(text)
    return Tokens(len(offsets), room, text[:at], text[at:])
