"""Keeps converted pictures as plain PNG files under the SHA-256 of the file, and makes the editor's copy of them."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import RequestError, StudioError
from .convert import TITLES, convert_in_slot, flatten
from .slots import SLOTS

ID = re.compile(r"[0-9a-f]{64}")
COMPRESSION = 1  # of zlib's 1 to 9: about four times faster than its usual 6, for files a fifth larger


@dataclass(frozen=True)
class StoredImage:
    """A picture in the store.

    id: SHA-256 of the file, 64 hex digits. path: a PNG, 8-bit RGB or RGBA. has_alpha: some pixel is not opaque.
    notices: sentences about the conversion; only `add` fills them.
    """

    id: str
    path: Path
    width: int
    height: int
    has_alpha: bool
    notices: tuple[str, ...] = ()


class ImageStore:
    """A folder of converted pictures, each stored once. Any number of threads and processes may use it."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def add(self, source: bytes | Path | Image.Image, field: str = "image") -> StoredImage:
        """Convert a picture (see convert.py) and keep it; the same pixels are kept once.

        field: the request's field that errors name. Raises RequestError for a picture that cannot be used and
        StudioError when it cannot be written.
        """
        with SLOTS:
            image, notices = convert_in_slot(source, field)
            buffer = io.BytesIO()
            image.save(buffer, "PNG", compress_level=COMPRESSION)
        data = buffer.getvalue()
        image_id = hashlib.sha256(data).hexdigest()
        path = self._path(image_id)
        try:
            if not path.exists() or path.stat().st_size != len(data):
                _write(path, data)
            _touch(path)
        except OSError as error:
            raise StudioError(f"The picture cannot be stored: {error.strerror or 'the disk refuses it'}.") from error
        return StoredImage(image_id, path, *image.size, image.mode == "RGBA", notices)

    def get(self, image_id: str, field: str = "image") -> StoredImage:
        """Look a picture up. Raises RequestError for an id that is malformed or unknown."""
        with self._stored(image_id, field) as image:
            return StoredImage(image_id, self._path(image_id), *image.size, image.mode == "RGBA")

    def open(self, image_id: str, field: str = "image") -> Image.Image:
        """Load a picture's pixels: RGB or RGBA, no profile. Raises RequestError as `get` does."""
        with SLOTS, self._stored(image_id, field) as image:
            try:
                image.load()
            except (OSError, SyntaxError, ValueError) as error:
                raise RequestError(f"{TITLES.get(field, 'Picture')}: the stored file is damaged. Please upload it "
                                   "again.", field) from error
            return image.copy()

    def _path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.png"

    def _stored(self, image_id: str, field: str) -> Image.Image:
        # The pattern comes first: an id arrives from outside and becomes part of a path.
        if isinstance(image_id, str) and ID.fullmatch(image_id):
            try:
                _touch(self._path(image_id))
                return Image.open(self._path(image_id), formats=("PNG",))
            except (OSError, SyntaxError):
                pass
        raise RequestError(f"{TITLES.get(field, 'Picture')}: it is not in the store. Please upload it again.", field)


def proxy(image: Image.Image, max_side: int = 1024) -> Image.Image:
    """Make the opaque copy that the mask editor shows: RGB on white, no profile, longer side at most max_side."""
    shown = flatten(image)
    shown.info = {}
    scale = max_side / max(image.size)
    if scale >= 1:
        return shown
    return shown.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def _touch(path: Path) -> None:
    """Note that a picture was used: what nobody uses for long is cleared (history/cleanup.py)."""
    with suppress(PermissionError):  # a folder that is only read
        os.utime(path)


def _write(path: Path, data: bytes) -> None:
    """Write through a file beside it, so that a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".adding-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
