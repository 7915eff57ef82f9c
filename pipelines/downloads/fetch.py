"""One file from the network to the disk, from where it was left off."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import ModelError
from .network import Broken, Network, Response
from .sources import RemoteFile

CHUNK_BYTES = 1 << 20
RESERVE_BYTES = 1 << 30  # left free for pictures and lists
FREE_CHECK_BYTES = 64 << 20
MAX_TRIES = 4  # without a byte in between


def fetch(network: Network, file: RemoteFile, part: Path, reserve_bytes: int = RESERVE_BYTES) -> Iterator[
        tuple[int, int]]:
    """Fetch a file into `part`; yields (bytes there, bytes in all or 0) after each chunk.

    What `part` holds already is not asked for again while the server still has the same file. A connection that
    breaks is made anew. Raises ModelError, with `part` kept when another try can go on. Stopping is closing.
    """
    tries = 0
    while True:
        begin = part.stat().st_size if part.exists() else 0
        try:
            yield from _attempt(network, file, part, reserve_bytes)
            return
        except Broken:
            tries = tries + 1 if not part.exists() or part.stat().st_size <= begin else 0
            if tries == MAX_TRIES:
                raise


def check(file: RemoteFile, path: Path) -> None:
    """Compare size and hash with what was announced. Raises ModelError and removes the file when they differ."""
    if file.size_bytes and path.stat().st_size != file.size_bytes:
        reason = f"it has {path.stat().st_size:,} bytes and was announced with {file.size_bytes:,}"
    elif file.sha256:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        reason = "" if found == file.sha256 else "its content is not what was announced (the hashes differ)"
    else:
        reason = ""
    if reason:
        path.unlink()
        raise ModelError(f"{Path(file.path).name[:80]} was not kept: {reason}.")


def need_room(folder: Path, wanted_bytes: int, reserve_bytes: int = RESERVE_BYTES) -> None:
    """Raise ModelError when the disk has no room for this many bytes more."""
    free = shutil.disk_usage(folder).free
    if wanted_bytes + reserve_bytes > free:
        raise ModelError(f"Download: {(wanted_bytes + reserve_bytes) / 1e9:.1f} GB of disk are needed and "
                         f"{free / 1e9:.1f} GB are free.")


def _attempt(network: Network, file: RemoteFile, part: Path, reserve_bytes: int) -> Iterator[tuple[int, int]]:
    mark = part.with_name(f"{part.name}.etag")
    done = part.stat().st_size if part.exists() else 0
    if file.size_bytes and done == file.size_bytes:
        return
    headers = {}
    if done:
        headers["Range"] = f"bytes={done}-"
        if mark.is_file():
            headers["If-Range"] = mark.read_text(encoding="utf-8")
    with network.open(file.url, headers) as response:
        total, done = _where(response, done)
        if total and done == total:
            return
        etag = response.headers.get("etag", "")
        if done == 0 and re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag):  # a weak one is no promise about bytes
            mark.write_text(etag, encoding="utf-8")
        elif done == 0:
            mark.unlink(missing_ok=True)
        need_room(part.parent, max(0, (total or file.size_bytes) - done), reserve_bytes)
        yield done, total
        with part.open("r+b" if done else "wb") as opened:
            opened.seek(done)
            opened.truncate()
            unchecked = 0
            while chunk := response.read(CHUNK_BYTES):
                opened.write(chunk)
                done, unchecked = done + len(chunk), unchecked + len(chunk)
                if total and done > total:
                    raise ModelError(f"{Path(file.path).name[:80]} was not kept: the server sends more than it said.")
                if unchecked >= FREE_CHECK_BYTES:
                    need_room(part.parent, 0, reserve_bytes)
                    unchecked = 0
                yield done, total
    if done < total:
        raise Broken("Download: the connection ended early.")


def _where(response: Response, done: int) -> tuple[int, int]:
    """(bytes in all or 0, where the answer begins); a server that cannot go on begins anew."""
    said = re.fullmatch(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)", response.headers.get("content-range", ""))
    total = int(said[2]) if said and said[2] != "*" else 0
    if response.status == 206 and said and said[1] == str(done):
        return total, done
    if response.status == 416 and total and total == done:
        return total, done
    if response.status == 200:
        length = response.headers.get("content-length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length) else 0, 0
    raise ModelError("Download: the server does not go on where it was left off. Stop it and begin anew.")
