"""Unpack a zip of pictures and captions safely: everything is counted while it is read, nothing is believed.

Members become plain files of our own naming in one folder; a picture and its caption keep a common stem. What they
were called in the zip stands in a file beside them, because tables of captions and folders' names speak of that.
"""

from __future__ import annotations

import io
import lzma
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ...errors import RequestError, quoted
from .listing import MASK, PICTURES, TABLES, TEXTS, fold_name, is_junk, write_names
from .tables import MAX_TABLE_BYTES, check_size

MAX_MEMBERS = 2_000
MAX_DIRECTORY_BYTES = 1_000 * MAX_MEMBERS  # of all members' names and facts
MAX_BYTES = 1_000_000_000  # unpacked
MAX_RATIO = 100  # unpacked bytes for one packed byte, overall
RATIO_FROM = 1_000_000  # bytes: less cannot hurt, and a small text may well shrink a hundredfold
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
UTF8_FLAG = 0x800
CHUNK = 1 << 20
DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError,
           ValueError, RuntimeError)
Member = tuple[zipfile.ZipInfo, PurePosixPath]


class _Reader(io.FileIO):
    """A file that does not read a huge directory: `zipfile` asks for the whole of it at once, and parses it all."""

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise _refused(f"its list of members has {size / 10**6:.1f} MB; the limit is "
                           f"{MAX_DIRECTORY_BYTES / 10**6:.1f} MB, and {MAX_MEMBERS:,} members")
        return super().read(size)


def unpack(source: Path, folder: Path) -> Path:
    """Unpack into `folder`, which must not exist yet, and return it.

    Raises RequestError for what is no harmless zip: paths that lead out, links, encrypted or nested archives, too
    many members, too many bytes. Then nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        with _Reader(source) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise _refused(f"it has {len(members):,} members; the limit is {MAX_MEMBERS:,}")
            wanted, unused = _sorted(members)
            originals = _write(archive, wanted, half, source.stat().st_size)
        write_names(half, originals, unused)
        half.chmod(0o755)
        half.rename(folder)
    except DAMAGED as error:
        raise _refused("it is damaged or of a kind that cannot be read") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def _sorted(members: list[zipfile.ZipInfo]) -> tuple[list[Member], list[str]]:
    """The members that are unpacked, and the names of those that are neither pictures nor captions."""
    wanted: list[Member] = []
    unused: list[str] = []
    seen: set[str] = set()
    for member in members:
        name = _name(member)
        path = PurePosixPath(name.replace("\\", "/"))
        shown = quoted(name, 60)
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
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
        if fold_name(str(path)) in seen:
            raise _refused(f"{shown} is in it twice")
        seen.add(fold_name(str(path)))
        if path.suffix.lower() in (*PICTURES, *TEXTS, *TABLES):
            wanted.append((member, path))
        else:
            unused.append(str(path))
    return wanted, unused


def _name(member: zipfile.ZipInfo) -> str:
    """A member's name. macOS writes UTF-8 without saying so, which `zipfile` reads as code page 437."""
    if member.flag_bits & UTF8_FLAG:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _write(archive: zipfile.ZipFile, members: list[Member], folder: Path, packed: int) -> dict[str, str]:
    """Write the members, a subfolder's name in front of the stem: pairs stay pairs, equal names stay apart.

    Returns new name -> name in the archive.
    """
    stems: dict[str, str] = {}
    taken: set[str] = set()
    originals: dict[str, str] = {}
    tops = {path.parts[0] if len(path.parts) > 1 else "" for _, path in members}
    skip = 1 if len(tops) == 1 and "" not in tops else 0  # a single folder around everything means nothing
    total = 0
    for member, path in members:
        key = path.with_name(path.stem.removesuffix(MASK) or MASK)
        if fold_name(str(key)) not in stems:
            stems[fold_name(str(key))] = _unused(plain(PurePosixPath(*key.parts[skip:])), taken)
        mask = MASK if path.stem.endswith(MASK) else ""
        name = f"{stems[fold_name(str(key))]}{mask}{path.suffix.lower()}"
        originals[name] = str(path)
        written = 0
        with archive.open(member) as reading, (folder / name).open("xb") as writing:
            while chunk := reading.read(CHUNK):
                total += len(chunk)
                written += len(chunk)
                if total > MAX_BYTES:
                    raise _refused(f"it unpacks to more than {MAX_BYTES // 10**6:,} MB")
                if total > max(RATIO_FROM, MAX_RATIO * packed):
                    raise _refused(f"it unpacks to more than {MAX_RATIO} times its size")
                if path.suffix.lower() in TABLES and written > MAX_TABLE_BYTES:
                    check_size(path.name, written)
                writing.write(chunk)
    return originals


def plain(stem: PurePosixPath) -> str:
    """A path as one stem: letters, digits and . _ - alone, so that every file system takes it."""
    return re.sub(r"[^\w.-]", "_", "_".join(stem.parts))[-50:].lstrip(".") or "file"


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number when another has it, small and capital letters being one. taken: gets it."""
    free, number = name, 1
    while fold_name(free) in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(fold_name(free))
    return free


def _refused(reason: str) -> RequestError:
    return RequestError(f"Data: this zip cannot be used: {reason}.", "data")
