"""Safetensors headers: what a weight file says about itself, read and checked without its weights.

Format: 8 bytes length n (little endian), n bytes of JSON {name: {"dtype", "shape", "data_offsets"}}, then the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .errors import ModelError

MAX_HEADER_BYTES = 100_000_000
MAX_SMALL_TENSOR_BYTES = 1_000_000
ITEM_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
             "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64}


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
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if file_bytes < 10 or length > min(MAX_HEADER_BYTES, file_bytes - 8):
                raise _fault(path, "it does not begin with a safetensors header")
            entries = json.loads(file.read(length))
    except OSError as error:
        raise _fault(path, error.strerror or "the disk does not answer") from None
    except (ValueError, RecursionError):
        raise _fault(path, "its header is not readable") from None
    if not isinstance(entries, dict):
        raise _fault(path, "its header is not a table")
    said = entries.pop("__metadata__", None)
    metadata = {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}
    start = 8 + length
    header = Header(path, start, {}, {}, {}, metadata)
    for name, entry in entries.items():
        shape, dtype, (begin, end) = _checked(path, name, entry)
        if start + end > file_bytes:
            raise _fault(path, f"it is cut short: {file_bytes:,} bytes of at least {start + end:,}")
        header.shapes[name], header.dtypes[name], header.offsets[name] = shape, dtype, (begin, end)
    ranges = sorted(offsets for offsets in header.offsets.values() if offsets[0] < offsets[1])
    if any(end > begin for (_, end), (begin, _) in pairwise(ranges)):
        raise _fault(path, "two of its tensors lie on the same bytes")
    return header


def small_tensor(header: Header, name: str) -> Any:
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


def _checked(path: Path, name: str, entry: Any) -> tuple[tuple[int, ...], str, tuple[int, int]]:
    """Shape, dtype and offsets of one entry; its byte range must be what shape and dtype ask for."""
    try:
        shape, dtype, (begin, end) = tuple(entry["shape"]), entry["dtype"], entry["data_offsets"]
        whole = len(shape) <= 8 and all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole or not isinstance(dtype, str):
        raise _fault(path, f"the entry of {name[:60]} is damaged")
    wanted = math.prod(shape) * ITEM_BITS.get(dtype, 0) // 8
    if end < begin or (dtype in ITEM_BITS and end - begin != wanted):
        raise _fault(path, f"{name[:60]} says {wanted:,} bytes and takes {end - begin:,}")
    return shape, dtype, (begin, end)


def _fault(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path.name[:80]} cannot be used: {reason}.")
