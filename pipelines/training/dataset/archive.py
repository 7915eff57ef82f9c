"""Unpack a zip of pictures and captions safely: everything is counted while it is read, nothing is believed.

Members become plain files of our own naming in one folder; a picture and its caption keep a common stem.
"""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...errors import RequestError

MAX_MEMBERS = 2_000
MAX_BYTES = 1_000_000_000  # unpacked
MAX_RATIO = 100  # unpacked bytes for one packed byte, overall
RATIO_FROM = 1_000_000  # bytes: less cannot hurt, and a small text may well shrink a hundredfold
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
TEXTS = (".txt", ".caption", ".jsonl", ".csv")
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
MASK = "-masklabel"  # ends the stem of a picture that is another's mask
JUNK = ("thumbs.db", "desktop.ini")
CHUNK = 1 << 20
DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError,
           ValueError, RuntimeError)


def is_junk(parts: tuple[str, ...]) -> bool:
    """Whether a path is what operating systems leave behind: __MACOSX, ._*, .DS_Store, Thumbs.db."""
    return any(part == "__MACOSX" or part.startswith(".") for part in parts) or parts[-1].lower() in JUNK


def unpack(source: Path, folder: Path) -> Path:
    """Unpack into `folder`, which must not exist yet, and return it.

    Raises RequestError for what is no harmless zip: paths that lead out, links, encrypted or nested archives, too
    many members, too many bytes. Then nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise _refused(f"it has {len(members):,} members; the limit is {MAX_MEMBERS:,}")
            _write(archive, list(_wanted(members)), half, source.stat().st_size)
        half.chmod(0o755)
        half.rename(folder)
    except DAMAGED as error:
        raise _refused("it is damaged or of a kind that cannot be read") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def _wanted(members: list[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    seen: set[str] = set()
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        shown = repr(member.filename[:60])
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", member.filename):
            raise _refused(f"{shown} leads out of the folder")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(f"{shown} is a link or a device")
        if member.is_dir() or not path.parts or is_junk(path.parts):
            continue
        if member.flag_bits & 1:
            raise _refused(f"{shown} is encrypted")
        if path.suffix.lower() in ARCHIVES:
            raise _refused(f"{shown} is an archive within the archive")
        if str(path).casefold() in seen:
            raise _refused(f"{shown} is in it twice")
        seen.add(str(path).casefold())
        if path.suffix.lower() in (*PICTURES, *TEXTS):
            yield member, path


def _write(archive: zipfile.ZipFile, members: list[tuple[zipfile.ZipInfo, PurePosixPath]], folder: Path,
           packed: int) -> None:
    """Write the members, a subfolder's name in front of the stem: pairs stay pairs, equal names stay apart."""
    stems: dict[PurePosixPath, str] = {}
    tops = {path.parts[0] if len(path.parts) > 1 else "" for _, path in members}
    skip = 1 if len(tops) == 1 and "" not in tops else 0  # a single folder around everything means nothing
    total = 0
    for member, path in members:
        key = path.with_name(path.stem.removesuffix(MASK) or MASK)
        if key not in stems:
            stems[key] = _unused(plain(PurePosixPath(*key.parts[skip:])), set(stems.values()))
        mask = MASK if path.stem.endswith(MASK) else ""
        name = f"{stems[key]}{mask}{path.suffix.lower()}"
        with archive.open(member) as reading, (folder / name).open("xb") as writing:
            while chunk := reading.read(CHUNK):
                total += len(chunk)
                if total > MAX_BYTES:
                    raise _refused(f"it unpacks to more than {MAX_BYTES // 10**6:,} MB")
                if total > max(RATIO_FROM, MAX_RATIO * packed):
                    raise _refused(f"it unpacks to more than {MAX_RATIO} times its size")
                writing.write(chunk)


def plain(stem: PurePosixPath) -> str:
    """A path as one stem: letters, digits and . _ - alone, so that every file system takes it."""
    return re.sub(r"[^\w.-]", "_", "_".join(stem.parts))[-50:].lstrip(".") or "file"


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number when another has it, small and capital letters being one."""
    used, free, number = {one.casefold() for one in taken}, name, 1
    while free.casefold() in used:
        number += 1
        free = f"{name}-{number}"
    return free


def _refused(reason: str) -> RequestError:
    return RequestError(f"Data: this zip cannot be used: {reason}.", "data")
