"""Colours that a file gives by numbers are shown as a browser shows them, and keys of few bits find their pixels."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.images.colours import UNUSABLE
from pipelines.images.convert import convert

from .files import chunk, encoded, noise, p3_to_srgb, png, profile, smooth

P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)  # as cHRM writes them


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def primaries(numbers: tuple[int, ...] = P3) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *numbers))


def grey(level: int, channels: int = 3) -> np.ndarray:
    return np.full((2, 2, channels), level, np.uint8)


def first(data: bytes) -> tuple[int, ...]:
    return convert(data)[0].getpixel((0, 0))


def low(depth: int, rows: list[list[int]], key: int | None = None) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel; key: the transparent level."""
    bits = ["".join(f"{value:0{depth}b}" for value in row) for row in rows]
    raw = b"".join(b"\0" + int(row.ljust(-len(row) % 8 + len(row), "0"), 2).to_bytes(-(-len(row) // 8), "big")
                   for row in bits)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), depth, 0, 0, 0, 0)
    extra = b"" if key is None else chunk(b"tRNS", struct.pack(">H", key))
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("value", "level"), [(1.0, 128), (0.45455, 55), (0.47, 55), (1 / 1.8, 71), (0.0, 55)])
def test_gamma_without_a_profile_is_taken_off(value, level):
    assert abs(first(png(grey(55), 2, extra=gamma(value)))[0] - level) <= 1


def test_gamma_of_linear_light_is_exact_in_every_mode_and_leaves_alpha_alone():
    assert first(png(grey(55), 2, extra=gamma(1.0))) == (128, 128, 128)
    assert first(png(grey(55, 1), 0, extra=gamma(1.0))) == (128, 128, 128)
    assert first(png(grey(55, 4), 6, extra=gamma(1.0))) == (128, 128, 128, 55)
    deep = np.full((2, 2, 1), 55 * 257, np.uint16)
    assert first(png(deep, 0, extra=gamma(1.0))) == (128, 128, 128)
    image = Image.new("P", (2, 2))
    image.putpalette([55, 55, 55])
    data = encoded(image)
    assert first(data[:33] + gamma(1.0) + data[33:]) == (128, 128, 128)


def test_what_says_its_colours_better_is_believed_instead_of_gamma():
    assert first(png(grey(55), 2, extra=chunk(b"sRGB", b"\0") + gamma(1.0))) == (55, 55, 55)
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile("RGB", curve=(1, 1, 0, 1, 0))))
    assert abs(first(png(grey(55), 2, extra=packed + gamma(0.45455)))[0] - 128) <= 1


@pytest.mark.parametrize("extra", [primaries(), gamma(0.45455) + primaries(), chunk(b"cICP", bytes([12, 13, 0, 1]))])
def test_primaries_become_those_of_srgb(extra):
    image = noise(40, 30)
    pixels = np.asarray(image)
    assert np.abs(np.asarray(convert(png(pixels, 2, extra=extra))[0]) - p3_to_srgb(pixels)).max() <= 2


@pytest.mark.parametrize("numbers", [(0,) * 8, (2**31,) * 8, (31270, 0, 64000, 0, 30000, 0, 15000, 0),
                                     (31270, 32900, *(30000, 30000) * 3),
                                     (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)])
def test_primaries_that_say_nothing_change_nothing(numbers):
    assert first(png(grey(55), 2, extra=primaries(numbers))) == (55, 55, 55)


def test_colours_that_cannot_be_used_are_said():
    pixels = grey(55)
    for extra in (chunk(b"cICP", bytes([9, 16, 0, 1])), chunk(b"iCCP", b"x\0\0damaged"),
                  chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000)))):
        assert convert(png(pixels, 2, extra=extra))[1] == (UNUSABLE,)


@pytest.mark.parametrize(("depth", "rows", "key"), [(1, [[0, 1]], 1), (2, [[0, 1, 2, 3]], 1), (4, [[0, 7, 15]], 7),
                                                    (4, [[0, 7, 15]], 7 + 16)])
def test_a_transparent_level_of_few_bits_is_found(depth, rows, key):
    most = 2**depth - 1
    plain, _ = convert(low(depth, rows, key))
    alphas = [0 if value == key & most else 255 for value in rows[0]]
    assert [pixel[3] for pixel in plain.getdata()] == alphas
    assert [pixel[0] for pixel in plain.getdata()] == [value * 255 // most for value in rows[0]]
    assert convert(low(depth, rows))[0].mode == "RGB"


@pytest.mark.parametrize(("kind", "options"), [("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
                                               ("AVIF", {"quality": 100, "subsampling": "4:4:4"})])
def test_further_kinds_are_read_whatever_the_file_is_called(kind, options, tmp_path):
    image = noise(21, 13)
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(image, kind, **options))
    plain, notices = convert(path)
    assert plain.mode == "RGB" and notices == ()
    assert np.abs(np.asarray(plain).astype(int) - np.asarray(image)).max() <= (4 if kind == "AVIF" else 0)


def test_further_kinds_keep_transparency_profile_and_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = noise(20, 12, "RGBA")
    for kind, options in (("TIFF", {}), ("AVIF", {"quality": 100, "exif": exif})):
        data = encoded(image, kind, **options) if kind == "AVIF" else encoded(image, kind, tiffinfo={0x0112: 6})
        plain, _ = convert(data)
        assert plain.size == (12, 20) and plain.mode == "RGBA"
        assert np.array_equal(np.asarray(plain)[..., 3] == 0, np.rot90(np.asarray(image)[..., 3], -1) == 0)
    rgb = noise(16, 16)
    shown = np.asarray(convert(encoded(rgb, "TIFF", icc_profile=profile("RGB")))[0])
    assert np.abs(shown - p3_to_srgb(np.asarray(rgb))).max() <= 2


def test_of_several_pictures_in_a_file_the_first_is_used_and_it_is_said():
    frames = [smooth(24, 16).transpose(turn) for turn in (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180)]
    for kind, word in (("GIF", "animated"), ("AVIF", "animated"), ("TIFF", "several pictures")):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        plain, notices = convert(data)
        assert word in notices[0] and len(notices) == 1
        assert np.abs(np.asarray(plain).astype(int) - np.asarray(frames[0])).mean() < 12
    still = encoded(frames[0].quantize(16), "GIF", transparency=3)
    assert convert(still)[0].mode == "RGBA" and convert(still)[1] == ()


def test_floating_point_pixels_are_refused_with_a_way_out():
    with pytest.raises(RequestError, match="floating-point.*8 or 16 bits"):
        convert(encoded(Image.new("F", (4, 4)), "TIFF"))


@pytest.mark.parametrize(("kind", "size"), [("JPEG", (5200, 3300)), ("PNG", (20_000, 850))])
def test_what_is_larger_than_the_engine_takes_is_made_smaller_and_both_sizes_are_said(kind, size):
    image = Image.linear_gradient("L").resize((size[0] // 50, size[1] // 50)).resize(size, Image.Resampling.NEAREST)
    plain, notices = convert(encoded(image, kind), "mask")
    assert plain.width * plain.height <= 4096**2 and max(plain.size) <= 16384
    assert abs(plain.width / plain.height - size[0] / size[1]) < 0.01 * size[0] / size[1]
    assert notices == (f"The picture has {size[0]} x {size[1]} px; it is used at {plain.width} x {plain.height} px.",)
    assert plain.getpixel((9, 2))[0] < 20 < 235 < plain.getpixel((9, plain.height - 3))[0]
