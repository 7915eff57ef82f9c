"""Decode a picture in a process of its own, with a deadline and a limit of memory, for what the header does not bound.

AVIF and TIFF come in many codings, and what their decoders do is not said before it is done; run-length BMP is decoded
pixel by pixel in Python; very large pictures take memory that the studio wants back at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from PIL import AvifImagePlugin, Image

from ..errors import RequestError

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0  # of the clock, on a busy machine; the child's own work ends long before
WORK_S = 20  # of a processor
MEMORY_BYTES = 2 << 30  # of addresses, of which the libraries themselves take some hundred MB
ENDED_BY_LIMIT = -24  # SIGXCPU
HALVE = "halve"  # the child's only argument
REFUSED = 3  # exit status of a file that is refused in words


def decode_apart(data: bytes, title: str, field: str, halve: bool = False, *, deadline_s: float = DEADLINE_S
                 ) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode a checked file, as `convert.decode` does, in a child. Raises RequestError, also at the deadline."""
    command = [sys.executable, "-m", "pipelines.images.isolated", *([HALVE] if halve else [])]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        answer, _ = child.communicate(data, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        raise RequestError(f"{title}: the file takes longer to decode than the limit of {deadline_s:g} s.",
                           field) from None
    finally:
        child.kill()
        child.wait()
    head, _, pixels = answer.partition(b"\n")
    if child.returncode == REFUSED:
        raise RequestError(json.loads(head), field)
    if child.returncode == ENDED_BY_LIMIT:
        raise RequestError(f"{title}: the file takes more work to decode than the limit of {WORK_S} s.", field)
    if child.returncode:
        raise RequestError(f"{title}: the file is damaged or incomplete and cannot be read.", field)
    facts = json.loads(head)
    return Image.frombytes(facts["mode"], tuple(facts["size"]), pixels), tuple(facts["notices"])


def main() -> int:
    """Decode what comes in, and write a line of facts and the pixels. For the child alone."""
    from .convert import decode
    from .header import read_header

    data = sys.stdin.buffer.read()
    _limit()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 2  # each takes addresses
    try:
        image, notices = decode(data, read_header(data), HALVE in sys.argv)
    except RequestError as error:
        sys.stdout.write(json.dumps(str(error)) + "\n")
        return REFUSED
    facts = {"mode": image.mode, "size": image.size, "notices": notices}
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n")
    sys.stdout.buffer.write(image.tobytes())
    sys.stdout.buffer.flush()
    return 0


def _limit() -> None:
    with suppress(ImportError, ValueError, OSError):  # no such limits on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (WORK_S, WORK_S + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
