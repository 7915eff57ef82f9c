"""Every kind of file is either brought to plain RGB or RGBA, or refused in plain words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.images.convert import MAX_FILE_BYTES, convert, flatten

from .files import bombs, chunk, encoded, noise, p3_to_srgb, png, profile, smooth

ROOT = Path(__file__).parents[3]


def pixels_of(source) -> np.ndarray:
    return np.asarray(convert(source)[0])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (511, 333)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_pictures_come_back_byte_for_byte(size, mode, kind):
    image = noise(*size, mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (9, 8, 7, 0))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    plain, notices = convert(encoded(image, kind, **options))
    assert plain.mode == mode and plain.tobytes() == image.tobytes() and notices == ()


def test_jpeg_is_read_as_pillow_reads_it():
    data = encoded(smooth(40, 30), "JPEG", quality=95)
    assert np.abs(pixels_of(data).astype(int) - np.asarray(smooth(40, 30))).max() < 12


def test_opaque_alpha_is_dropped():
    assert convert(encoded(noise(4, 4).convert("RGBA")))[0].mode == "RGB"


TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_exif_orientation_is_applied_once(orientation, mode):
    image = noise(7, 4, mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, _ = convert(encoded(image, exif=exif))
    assert np.array_equal(np.asarray(plain), TURNED[orientation](np.asarray(image)))
    assert convert(encoded(plain))[0].tobytes() == plain.tobytes()


def test_rotated_jpeg_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, _ = convert(encoded(smooth(64, 32), "JPEG", exif=exif))
    assert plain.size == (32, 64)
    assert plain.getpixel((31, 0))[0] < 20 < 235 < plain.getpixel((31, 63))[0]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_is_ignored(exif):
    image = noise(5, 4)
    assert convert(encoded(image, exif=exif))[0].tobytes() == image.tobytes()


def test_display_p3_becomes_srgb():
    image = noise(64, 64)
    converted = pixels_of(encoded(image, icc_profile=profile("RGB")))
    expected = p3_to_srgb(np.asarray(image))
    assert np.abs(converted - expected).max() <= 2
    assert np.abs(np.asarray(image) - expected).max() > 40  # the profile does matter


def test_profile_leaves_alpha_alone():
    image = noise(16, 16, "RGBA")
    converted, _ = convert(encoded(image, icc_profile=profile("RGB")))
    assert np.array_equal(np.asarray(converted)[..., 3], np.asarray(image)[..., 3])
    assert np.abs(np.asarray(converted)[..., :3] - p3_to_srgb(np.asarray(image)[..., :3])).max() <= 2


def test_grey_profile_is_applied():
    linear = profile("GRAY", curve=(1, 1, 0, 1, 0))
    converted = pixels_of(encoded(Image.new("L", (2, 2), 128), icc_profile=linear))
    assert abs(int(converted[0, 0, 0]) - 188) <= 1 and converted.shape == (2, 2, 3)


@pytest.mark.parametrize("broken", [b"not a profile", profile("GRAY"), profile("RGB")[:200]])
def test_unusable_profile_is_left_out_with_a_notice(broken):
    image = noise(5, 5)
    plain, notices = convert(encoded(image, icc_profile=broken))
    assert plain.tobytes() == image.tobytes()
    assert "profile" in notices[0] and "icc_profile" not in plain.info


def test_cmyk_jpeg_shows_its_colours():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = convert(encoded(image, "JPEG", quality=95))[0].getpixel((8, 8))
    assert red > 240 and green < 15 and blue < 15


def test_palette_keeps_colours_and_transparency():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    assert pixels_of(encoded(image)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    expected = [[[255, 0, 0, 255], [0, 255, 0, 0], [0, 0, 255, 128]]]
    assert pixels_of(encoded(image, transparency=bytes([255, 0, 128]))).tolist() == expected


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_transparent_colour_becomes_alpha_and_keeps_the_colour(mode):
    key = 7 if mode == "L" else (7, 7, 7)
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), 200 if mode == "L" else (200, 200, 200))
    assert pixels_of(encoded(image, transparency=key)).tolist() == [[[7, 7, 7, 0], [200, 200, 200, 255]]]


def test_black_and_white_is_0_and_255():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert pixels_of(encoded(image)).tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_is_scaled_not_clipped(colour_type, channels):
    deep = np.random.default_rng(1).integers(0, 65536, (6, 5, channels), np.uint16)
    converted = pixels_of(png(deep, colour_type)).astype(int)
    wanted = deep / 257
    if channels < 3:
        wanted = np.concatenate([wanted[..., :1].repeat(3, -1), wanted[..., 1:]], -1)
    assert converted.shape == wanted.shape and np.abs(converted - wanted).max() <= 1


def test_transparent_colour_of_a_sixteen_bit_picture_is_found():
    deep = np.array([[[1000, 30000, 60000], [60000, 1000, 30000]]], np.uint16)
    key = chunk(b"tRNS", np.array([1000, 30000, 60000], ">u2").tobytes())
    assert pixels_of(png(deep, 2, extra=key))[..., 3].tolist() == [[0, 255]]
    grey = np.array([[[1000], [60000]]], np.uint16)
    key = chunk(b"tRNS", np.array([1000], ">u2").tobytes())
    assert pixels_of(png(grey, 0, extra=key)).tolist() == [[[4, 4, 4, 0], [233, 233, 233, 255]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr",
                                  "HSV", "LAB", "I", "I;16"])
def test_pictures_in_memory_of_any_mode_become_plain(mode):
    image = Image.new(mode, (3, 2))
    plain, _ = convert(image)
    assert plain.mode in ("RGB", "RGBA") and plain.size == (3, 2) and plain is not image and image.mode == mode


def test_floating_point_pixels_are_refused():
    with pytest.raises(RequestError, match="Picture"):
        convert(Image.new("F", (3, 2)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animation_gives_its_first_frame_with_a_notice(kind):
    frames = [noise(8, 6, seed=seed) for seed in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    plain, notices = convert(data)
    assert plain.tobytes() == frames[0].tobytes() and "first frame" in notices[0]


def test_phone_picture_with_a_second_picture_inside_is_no_animation():
    data = encoded(smooth(32, 24), "MPO", save_all=True, append_images=[smooth(8, 8)])
    plain, notices = convert(data)
    assert plain.size == (32, 24) and notices == ()


def other_kinds() -> dict[str, bytes]:
    image = smooth(16, 16)
    raw = encoded(image, "TIFF", tiffinfo={254: 1})  # the preview that a camera's raw file begins with
    return {
        "PostScript": encoded(image, "EPS"), "JPEG 2000": encoded(image, "JPEG2000"),
        "icon": encoded(image, "ICO"), "PDF": encoded(image, "PDF"), "camera raw": raw,
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "Photoshop": b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\1\0\0\0\1\0\x08\0\3" + bytes(64), "ZIP": b"PK\3\4" + bytes(64),
    }


@pytest.mark.parametrize(("kind", "data"), other_kinds().items(), ids=other_kinds())
def test_other_kinds_are_refused_by_name_whatever_the_file_is_called(kind, data, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(RequestError, match=f"Picture: this is a {kind} file. PNG, JPEG, WebP, AVIF, BMP, TIFF and GIF"):
        convert(path)


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"RIFF\0\0\0\0WAVE", b"\xff\xd8", bytes(1000)])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(RequestError, match="not a picture file"):
        convert(data)


def test_jpeg_with_the_name_of_a_png_is_read(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(smooth(20, 10), "JPEG"))
    assert convert(path)[0].size == (20, 10)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}),
                                               ("WEBP", {"lossless": True})])
def test_truncated_files_are_refused_or_whole(kind, options):
    whole = encoded(noise(50, 40), kind, **options)
    pixels = pixels_of(whole)
    for cut in np.linspace(1, len(whole) - 1, 20).astype(int):
        try:
            partial = pixels_of(whole[:cut])
        except RequestError as error:
            assert str(error).startswith("Picture: ") and "\n" not in str(error)
        else:  # only the end marks are missing
            assert np.array_equal(partial, pixels) and cut > len(whole) * 0.95


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_flipped_bytes_never_raise_anything_else(kind):
    whole = bytearray(encoded(noise(20, 20, "RGB"), kind))
    rng = np.random.default_rng(5)
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        try:
            convert(bytes(damaged))
        except RequestError as error:
            assert str(error).startswith("Picture: ")


@pytest.mark.parametrize(("size", "limit"), [((16383, 16383), "megapixels"), ((0, 40), "a side may be 1")])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
def test_sizes_beyond_the_limit_are_refused_by_name(size, limit, kind):
    if kind == "WebP" and not size[0]:
        pytest.skip("its header cannot say 0")
    with pytest.raises(RequestError, match=f"{size[0]} x {size[1]} px.*{limit}") as refused:
        convert(bombs(*size)[kind], "mask")
    assert refused.value.field == "mask" and str(refused.value).startswith("Mask: ")


def test_the_largest_allowed_picture_is_read():
    assert convert(encoded(Image.new("L", (16384, 1024))))[0].size == (16384, 1024)


def test_a_second_header_does_not_get_past_the_size_check():
    small = png(np.zeros((4, 4, 3), np.uint8), 2)
    hidden = png(np.zeros((4200, 4200, 1), np.uint8), 0)[8:]  # complete, and too large
    with pytest.raises(RequestError):
        convert(small[:33] + hidden)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
@pytest.mark.parametrize("side", [13300, 16383, 20000])
def test_bombs_take_no_memory(kind, side, tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(bombs(side, side)[kind])
    script = f"""
import sys
from pathlib import Path
from pipelines.errors import RequestError
from pipelines.images.convert import convert
def peak_mb():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmPeak"))
before = peak_mb()
try:
    convert(Path({str(path)!r}))
except RequestError as error:
    assert "{side} x {side}" in str(error), error
else:
    raise SystemExit("it was read")
print(peak_mb() - before)
"""
    grown = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert grown.returncode == 0, grown.stderr
    assert float(grown.stdout) < 100


def test_large_files_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 2**20)
    with pytest.raises(RequestError, match="21.0 MB; the limit is 20 MB"):
        convert(path)
    with pytest.raises(RequestError, match="limit is 20 MB"):
        convert(bytes(MAX_FILE_BYTES + 1))


def test_missing_file_is_named_without_its_path(tmp_path):
    with pytest.raises(RequestError, match="cannot be opened") as refused:
        convert(tmp_path / "none.png")
    assert str(tmp_path) not in str(refused.value)


def test_flatten_lays_on_white():
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert flatten(image).getpixel((0, 0)) == (255, 255, 255)
    assert flatten(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).getpixel((0, 0)) == (127, 127, 127)
