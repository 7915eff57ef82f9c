"""Safetensors headers: what a weight file says about itself, read and checked without its weights.

Format: 8 bytes length n (little endian), n bytes of JSON {name: {"dtype", "shape", "data_offsets"}}, then the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...errors import ModelError

if TYPE_CHECKING:
    import torch

# The largest headers of real files hold a few thousand names and a picture: below 5 MB.
MAX_HEADER_BYTES = 16_000_000
# Of each mark that makes Python build an object: a header of 16 MB could otherwise become hundreds in memory.
MAX_MARKS = 250_000
MARKS = (b"{", b"[", b":", b",")
MAX_AXES = 8
MAX_SMALL_TENSOR_BYTES = 1_000_000
ITEM_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
             **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
             **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16), **dict.fromkeys(("I32", "U32", "F32"), 32),
             **dict.fromkeys(("F64", "I64", "U64", "C64"), 64)}


@dataclass(frozen=True)
class Header:
    """path: the file. start: where its data begins. shapes, dtypes, offsets (from start): by tensor name.

    metadata: what the file's maker wrote into it, unchecked text of any length.
    """

    path: Path
    start: int
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    offsets: dict[str, tuple[int, int]]
    metadata: dict[str, str] = field(default_factory=dict)

    def parameters(self, prefix: str = "") -> int:
        """How many numbers the tensors under `prefix` hold."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name.startswith(prefix))


def read_header(path: Path) -> Header:
    """Read and check a header, or raise ModelError naming the file (not its folder) and what is wrong."""
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            raw = _raw_header(path, file, file_bytes)
    except OSError as error:
        raise _fault(path, error.strerror or "the disk does not answer") from None
    entries = _table(path, raw)
    said = entries.pop("__metadata__", None)
    metadata = {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}
    start = 8 + len(raw)
    header = Header(path, start, {}, {}, {}, metadata)
    for name, entry in entries.items():
        header.shapes[name], header.dtypes[name], header.offsets[name] = _checked(path, name, entry)
    end = start + max((end for _, end in header.offsets.values()), default=0)
    if end > file_bytes:
        raise _fault(path, f"it is cut short: {file_bytes:,} bytes of at least {end:,}")
    if end < file_bytes:
        raise _fault(path, f"it goes on after its last tensor: {file_bytes:,} bytes instead of {end:,}")
    ranges = sorted(offsets for offsets in header.offsets.values() if offsets[0] < offsets[1])
    if any(end > begin for (_, end), (begin, _) in pairwise(ranges)):
        raise _fault(path, "two of its tensors lie on the same bytes")
    return header


def raw_header(path: Path) -> bytes:
    """Read a header's text unchecked, to look for a word in it; OSError or ModelError when there is none."""
    with path.open("rb") as file:
        return _raw_header(path, file, file.seek(0, 2))


def small_tensor(header: Header, name: str) -> torch.Tensor:
    """Read one small floating-point tensor as a float32 array; its dtype is F16, BF16 or F32."""
    import numpy as np

    begin, end = header.offsets[name]
    if end - begin > MAX_SMALL_TENSOR_BYTES:
        raise _fault(header.path, f"{name[:60]} is larger than expected")
    with header.path.open("rb") as file:
        file.seek(header.start + begin)
        data = file.read(end - begin)
    dtype = header.dtypes[name]
    if dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in ("F16", "F32"):
        values = np.frombuffer(data, "<f2" if dtype == "F16" else "<f4").astype(np.float32)
    else:
        raise _fault(header.path, f"{name[:60]} is stored as {dtype}")
    return values.reshape(header.shapes[name])


def _raw_header(path: Path, file: BinaryIO, file_bytes: int) -> bytes:
    file.seek(0)
    length, first = int.from_bytes(file.read(8), "little"), file.read(1)
    if first == b"{" and file_bytes - 8 < length <= MAX_HEADER_BYTES:
        raise _fault(path, f"it is cut short: {file_bytes:,} bytes of at least {length + 8:,}")
    if file_bytes < 10 or length > file_bytes - 8:
        raise _fault(path, "it does not begin with a safetensors header")
    if length > MAX_HEADER_BYTES:
        raise _fault(path, f"its header has {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    file.seek(8)
    return file.read(length)


def _table(path: Path, raw: bytes) -> dict[str, object]:
    """Parse a header, every table of which must name its entries once."""
    if any(raw.count(mark) > MAX_MARKS for mark in MARKS):
        raise _fault(path, f"its header lists more than {MAX_MARKS:,} things")
    try:
        entries = json.loads(raw, object_pairs_hook=_once)
    except KeyError as error:
        raise _fault(path, f"its header names {str(error.args[0])[:60]} twice") from None
    except (ValueError, RecursionError):
        raise _fault(path, "its header is not readable") from None
    if not isinstance(entries, dict):
        raise _fault(path, "its header is not a table")
    return entries


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        raise KeyError(next(name for name, _ in pairs if name in seen or seen.add(name)))
    return table


def _checked(path: Path, name: str, entry: Any) -> tuple[tuple[int, ...], str, tuple[int, int]]:
    """Shape, dtype and offsets of one entry; its byte range must be what shape and dtype ask for."""
    try:
        shape, dtype, (begin, end) = tuple(entry["shape"]), entry["dtype"], entry["data_offsets"]
        whole = len(shape) <= MAX_AXES and all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole or not isinstance(dtype, str):
        raise _fault(path, f"the entry of {name[:60]} is damaged")
    if dtype not in ITEM_BITS:
        raise _fault(path, f"{name[:60]} is stored as {dtype[:20]}, which is no number format")
    wanted = math.prod(shape) * ITEM_BITS[dtype] // 8
    if end - begin != wanted:
        raise _fault(path, f"{name[:60]} says {wanted:,} bytes and takes {end - begin:,}")
    return shape, dtype, (begin, end)


def _fault(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path.name[:80]} cannot be used: {reason}.")
