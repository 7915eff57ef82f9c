"""Count a prompt's tokens without loading a model: the `tokenizers` library alone, a few milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .chunks import CHUNK, COMMA, MAX_CHUNKS, Chunk, chunked
from .comments import without_comments
from .schedule import Sections, plan

END = "<|endoftext|>"
STEPS = 20  # over which a prompt that changes is looked at
MAX_SCENES = 8  # of those that differ


@dataclass(frozen=True)
class Tokens:
    """The longest text that a prompt asks for at any step, without its syntax.

    count: tokens, the padding before the last chunk included. limit: how many fit in as many chunks. kept + cut is
    the text, cut what lies beyond MAX_CHUNKS. chunks: tokens in each chunk.
    """

    count: int
    limit: int
    kept: str
    cut: str
    chunks: tuple[int, ...] = ()


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


def count(text: str, folder: Path, *, names: Mapping[str, int] | None = None) -> Tokens:
    """Count `text` with the tokenizer in `folder` (vocab.json, merges.txt): what is read, not weights and tags.

    names: embeddings that stand for their bare name, and how many vectors each has.
    """
    tokenizer = _encoding(folder, (folder / "vocab.json").stat().st_mtime_ns)

    def encode(piece: str) -> list[int]:
        return tokenizer.encode(piece, add_special_tokens=False).ids

    texts = _texts(text)
    comma = tokenizer.token_to_id(COMMA)
    found = [(sections, chunked(sections, encode, comma, names=names)) for sections in texts]
    sections, chunks = max(found, key=lambda pair: _count(pair[1]))
    read = chunks[:MAX_CHUNKS]
    if len(chunks) == len(read):
        return Tokens(_count(chunks), CHUNK * len(chunks), text, "", _lengths(chunks))
    kept, cut = _cut(sections, tokenizer, sum(len(chunk.ids) for chunk in read))
    return Tokens(_count(chunks), CHUNK * MAX_CHUNKS, kept, cut, _lengths(read))


def plain(text: str) -> str:
    """All that a prompt says at any step, without its syntax."""
    return "\n".join("".join(piece.text for section in sections for piece in section) for sections in _texts(text))


def _texts(text: str) -> tuple[Sections, ...]:
    scenes = list(dict.fromkeys(plan(without_comments(text), "", STEPS).scenes))[:MAX_SCENES]
    return tuple(dict.fromkeys(sections for scene in scenes for sections, _ in scene.prompts))


def _lengths(chunks: tuple[Chunk, ...]) -> tuple[int, ...]:
    return tuple(len(chunk.ids) for chunk in chunks)


def _count(chunks: tuple[Chunk, ...]) -> int:
    return CHUNK * (len(chunks) - 1) + len(chunks[-1].ids)


def _cut(sections: Sections, tokenizer, room: int) -> tuple[str, str]:
    """Cut the flat text where the first token begins that is no longer read."""
    texts = [piece.text for section in sections for piece in section]
    for number, text in enumerate(texts):
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) > room:
            at = offsets[room][0]
            return "".join(texts[:number]) + text[:at], text[at:] + "".join(texts[number + 1:])
        room -= len(offsets)
    return "".join(texts), ""
