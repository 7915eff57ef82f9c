"""Files made to hold a decoder for minutes: each is refused, or read without what it was made of.

No clock is read: what is counted is the work, as parts that were walked over, bytes that a decoder is given, processes.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pipelines.errors import RequestError
from pipelines.images import isolated
from pipelines.images.convert import convert, decode, is_bounded
from pipelines.images.files import KINDS, gif, jpeg, png, tiff
from pipelines.images.files.facts import MAX_PARTS, MAX_SCANS
from pipelines.images.header import read_header
from pipelines.images.slots import AT_ONCE, SLOTS
from pipelines.images.store import ImageStore
from pipelines.metadata import all_text, read, read_any

from .files import chunk, encoded, noise, smooth
from .files import png as made_png

PICTURE = np.zeros((4, 4, 3), np.uint8)
JPEG = encoded(smooth(8, 8), "JPEG")


def with_chunks(*chunks: bytes, behind: bytes = b"") -> bytes:
    """A small PNG with chunks before its pixels, and others behind them."""
    data = made_png(PICTURE, 2, extra=b"".join(chunks))
    return data[:-12] + behind + data[-12:]


def animation(frames: int, text: bytes = b"") -> bytes:
    """An animated PNG of so many frames, with a text behind them all."""
    pixels, parts = zlib.compress(b"\0" + bytes(12)), []
    still = made_png(PICTURE, 2)
    for number in range(frames):
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * number, 4, 1, 0, 0, 1, 10, 0, 0)))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number + 1) + pixels))
    return still[:33] + chunk(b"acTL", struct.pack(">II", frames, 0)) + still[33:-12] + b"".join(parts) + text \
        + still[-12:]


def progressive(scans: int) -> bytes:
    data = encoded(smooth(32, 32), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + data[-2:]


def exif_of(entries: int, size: int) -> bytes:
    """An EXIF block of many tags, each a text at the same place."""
    head = b"II*\0" + struct.pack("<IH", 8, entries)
    place = len(head) + 12 * entries + 4
    return head + b"".join(struct.pack("<HHII", 0x1000 + at, 2, size, place) for at in range(entries)) + bytes(4 + size)


@pytest.fixture
def frames_decoded(monkeypatch):
    """How often the PNG decoder went on to another frame."""
    counted, seek = [], PngImageFile.seek
    monkeypatch.setattr(PngImageFile, "seek", lambda self, frame: (counted.append(frame), seek(self, frame))[1])
    return counted


def test_an_animation_of_many_frames_gives_its_first_and_its_text_and_no_other_is_decoded(frames_decoded, tmp_path):
    data = animation(20_000, chunk(b"tEXt", b"parameters\0a cat\nSteps: 3, Seed: 1, Size: 64x64"))
    (tmp_path / "x.png").write_bytes(data)
    plain, notices = convert(data)
    assert plain.size == (4, 4) and "first frame" in notices[0]
    assert read_any(tmp_path / "x.png").parsed.fields["steps"] == 3
    assert read(Image.open(tmp_path / "x.png")) is None  # what Pillow opened is not run through either
    assert frames_decoded == []
    assert len(KINDS["PNG"].reader.pixels(data)) < 200


@pytest.mark.parametrize(("data", "reason"), [
    (with_chunks(*[chunk(b"tEXt", b"a\0b")] * 300_000), f"more than {MAX_PARTS:,} chunks beside its pixels"),
    (with_chunks(behind=chunk(b"zTXt", b"a\0\0") * 5_000), f"more than {MAX_PARTS:,} chunks beside its pixels"),
    (with_chunks(behind=chunk(b"IDAT", b"") * 100_000), "more than 65,536 chunks of pixels"),
    (animation(40_000), "more than 65,536 chunks of pixels"),
    (progressive(5_000), f"more than {MAX_SCANS} scans"),
    (b"\xff\xd8" + b"\xff\xe1\0\4ab" * 100_000 + JPEG[2:], f"more than {MAX_PARTS:,} segments"),
    (b"\xff\xd8" + b"\xff\xd0" * 100_000 + JPEG[2:], f"more than {MAX_PARTS:,} segments"),
    (encoded(smooth(8, 8), "GIF")[:-1] + b"!\xfe\1a\0" * 100_000 + b";", "more than 65,536 blocks"),
    (encoded(smooth(8, 8), "GIF")[:-1] + b"!\xfe" + b"\1a" * 600_000 + b"\0;", "more than 500,000 links"),
    (exif_of(5_000, 10), f"more than {MAX_PARTS:,} tags"),
    (exif_of(900, 1_000_000), "its tags hold more than the whole file"),
], ids=["text chunks", "packed texts", "empty pixels", "frames", "scans", "segments", "restarts", "blocks", "links",
        "tags", "tags at one place"])
def test_a_file_of_more_parts_than_any_program_writes_is_refused_by_their_number(data, reason, tmp_path):
    with pytest.raises(RequestError, match=f"^Mask: .*{reason}") as refused:
        convert(data, "mask")
    assert refused.value.field == "mask"
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(RequestError, match=f"^Picture: .*{reason}"):
        all_text(tmp_path / "x")


def test_a_decoder_sees_nothing_but_a_still_picture_and_its_colours():
    exif = exif_of(900, 1_000_000)
    bomb = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(50_000_000)))
    assert convert(with_chunks(bomb, behind=bomb))[0].size == (4, 4)
    image = smooth(32, 32)
    jpeg_file = encoded(image, "JPEG", comment=b"secret", exif=b"Exif\0\0" + exif[:60_000], progressive=True)
    gif_file = encoded(image, "GIF", comment=b"secret" * 50, save_all=True, append_images=[noise(32, 32)])
    for data, reader, hidden in ((with_chunks(chunk(b"eXIf", exif), chunk(b"tEXt", b"a\0secret")), png,
                                  (b"eXIf", b"tEXt", b"secret")),
                                 (jpeg_file, jpeg, (b"Exif", b"secret")), (gif_file, gif, (b"secret",))):
        pixels = reader.pixels(data)
        assert not [part for part in hidden if part in pixels]
        with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(pixels)) as after:
            assert before.convert("RGB").tobytes() == after.convert("RGB").tobytes()
            assert getattr(after, "n_frames", 1) == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_exif_block_whose_tags_share_a_megabyte_is_passed_over(kind, tmp_path):
    block = exif_of(800, 60_000 - 10_000 if kind == "JPEG" else 1_000_000)
    data = encoded(smooth(16, 16), kind, exif=b"Exif\0\0" + block)
    assert tiff.exif_tags(block) == {} and tiff.orientation(block) == 1
    assert convert(data)[0].size == (16, 16)
    (tmp_path / "x").write_bytes(data)
    assert read(tmp_path / "x") is None


def test_only_what_the_header_bounds_is_decoded_in_this_process():
    apart = {kind for kind in KINDS if not is_bounded(read_header(encoded(smooth(16, 16), kind)))}
    assert apart == {"AVIF", "TIFF"}
    run_length = bytearray(encoded(smooth(16, 16).quantize(8), "BMP"))
    run_length[30] = 1
    assert not is_bounded(read_header(bytes(run_length)))
    header = read_header(encoded(smooth(16, 16), "JPEG"))._replace(width=10_000, height=10_000)
    assert is_bounded(header) and not is_bounded(header._replace(scans=20))
    assert not is_bounded(header._replace(format="PNG"))


def test_a_decoder_that_does_not_end_is_ended():
    data = encoded(smooth(16, 16), "TIFF")
    with pytest.raises(RequestError, match="^Mask: the file takes longer to decode than the limit of 0.001 s"):
        isolated.decode_apart(data, "Mask", "mask", deadline_s=0.001)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory hold there")
def test_a_decoder_that_wants_gigabytes_gets_none_and_the_file_counts_as_damaged():
    header = encoded(Image.new("L", (16, 16)), "TIFF", compression="tiff_adobe_deflate")
    at = header.index(struct.pack("<HHI", 256, 4, 1)) if struct.pack("<HHI", 256, 4, 1) in header else \
        header.index(struct.pack("<HHI", 256, 3, 1))
    wide = bytearray(header)
    wide[at:at + 12] = struct.pack("<HHII", 256, 4, 1, 60_000)  # px wide
    wide[at + 12:at + 24] = struct.pack("<HHII", 257, 4, 1, 60_000)
    with pytest.raises(RequestError, match="megapixels"):
        convert(bytes(wide))
    ended = subprocess.run([sys.executable, "-c", (
        "from pipelines.images import isolated\nisolated._limit()\n"
        "try: bytearray(4 << 30)\nexcept MemoryError: print('none')")],
        cwd=Path(isolated.ROOT), capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "none"


def test_no_more_than_two_pictures_are_decoded_at_a_time(tmp_path, monkeypatch):
    """Twelve uploads arrive together; each decode waits until as many as may have met, or nobody else comes."""
    inside, most, lock = [0], [0], threading.Lock()
    meeting = threading.Barrier(AT_ONCE)

    def slow(data, header, halve=False):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        meeting.wait(timeout=60)
        try:
            return decode(data, header, halve)
        finally:
            with lock:
                inside[0] -= 1

    monkeypatch.setattr("pipelines.images.convert.decode", slow)
    store = ImageStore(tmp_path)
    threads = [threading.Thread(target=store.add, args=(encoded(noise(32, 32, seed=at)),)) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [AT_ONCE] and len(list(tmp_path.iterdir())) == 12
    assert all(SLOTS.acquire(blocking=False) for _ in range(AT_ONCE))
    SLOTS.release(AT_ONCE)


@pytest.mark.parametrize("kind", ["AVIF", "TIFF", "BMP", "GIF"])
def test_damaged_files_of_every_kind_are_refused_in_words(kind):
    whole = encoded(smooth(40, 30), kind)
    rng = np.random.default_rng(5)
    damaged = [whole[:cut] for cut in np.linspace(1, len(whole) - 1, 12).astype(int)]
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            data[place] ^= int(rng.integers(1, 256))
        damaged.append(bytes(data))
    for data in damaged:
        try:
            header = read_header(data)
            if header is not None and header.width * header.height < 100_000:
                decode(data, header)
        except Exception as error:  # noqa: BLE001 - what a decoder raises is turned into words by `convert`
            assert not isinstance(error, RecursionError)
    for data in damaged[::24]:
        try:
            convert(data)
        except RequestError as error:
            assert str(error).startswith("Picture: ") and "\n" not in str(error)
