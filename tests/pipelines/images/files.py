"""Picture files made for the tests: pixels with a seed, PNGs of any bit depth, ICC profiles, size bombs."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
P3_COLORANTS = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB_COLORANTS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Random pixels; in RGBA a quarter is opaque and a quarter has alpha 0, with colours underneath."""
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    if mode == "RGBA":
        alpha = pixels[..., 3]
        pixels[..., 3] = np.where(alpha < 64, 0, np.where(alpha >= 192, 255, alpha))
    return Image.fromarray(pixels)


def smooth(width: int, height: int) -> Image.Image:
    """A colour gradient, which JPEG and lossy WebP keep nearly as it is."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), np.full_like(x, 90)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels: np.ndarray, colour_type: int, *, extra: bytes = b"") -> bytes:
    """A PNG of uint8 or uint16 samples, (h, w, c). colour_type: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, pixels.dtype.itemsize * 8, colour_type, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw))
            + chunk(b"IEND", b""))


def bombs(width: int, height: int) -> dict[str, bytes]:
    """Small files that claim to be huge, one for each format that is read."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    zeros = zlib.compressobj()
    body = b"".join(zeros.compress(bytes(1_000_000)) for _ in range(60)) + zeros.flush()
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"
    jpeg = encoded(smooth(16, 16), "JPEG")
    start = jpeg.index(b"\xff\xc0")
    canvas = b"\0\0\0\0" + max(width - 1, 0).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    still = encoded(smooth(16, 16), "WEBP", lossless=True)[12:]
    chunks = b"VP8X" + struct.pack("<I", 10) + canvas + still
    return {
        "PNG": b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b""),
        "JPEG": jpeg[:start] + frame + jpeg[start + 19:],
        "WebP": b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks,
    }


def profile(space: str, colorants=P3_COLORANTS, curve: tuple[float, ...] = SRGB_CURVE) -> bytes:
    """An ICC v4 profile: "RGB" with these D50 colorants, or "GRAY"; curve as in parametric curve type 3."""
    fixed = lambda value: struct.pack(">i", round(value * 65536))  # noqa: E731
    parametric = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(fixed, curve))
    tags = {b"wtpt": b"XYZ \0\0\0\0" + b"".join(map(fixed, (0.96420, 1.0, 0.82491)))}
    tags[b"desc"] = tags[b"cprt"] = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2, 28) + b"\0x"
    if space == "RGB":
        for letter, colorant in zip(b"rgb", colorants, strict=True):
            tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + b"".join(map(fixed, colorant))
            tags[bytes([letter]) + b"TRC"] = parametric
    else:
        tags[b"kTRC"] = parametric
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    total = start + len(body)
    head = struct.pack(">I4sI4s4s4s12s4s4sIIIQI3i4s", total, b"\0\0\0\0", 0x04300000, b"mntr", space.ljust(4).encode(),
                       b"XYZ ", struct.pack(">6H", 2024, 1, 1, 0, 0, 0), b"acsp", b"\0\0\0\0", 0, 0, 0, 0, 0,
                       63190, 65536, 54061, b"\0\0\0\0")
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def p3_to_srgb(pixels: np.ndarray) -> np.ndarray:
    """What a Display P3 picture looks like in sRGB, worked out from the definitions. (h, w, 3) uint8."""
    gamma, a, b, c, d = SRGB_CURVE
    values = pixels / 255
    linear = np.where(values >= d, (a * values + b) ** gamma, c * values)
    linear = linear @ np.array(P3_COLORANTS) @ np.linalg.inv(np.array(SRGB_COLORANTS))
    linear = linear.clip(0, 1)
    return np.rint(255 * np.where(linear >= 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear))
