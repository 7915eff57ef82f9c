"""The text a picture carries: AUTOMATIC1111's infotext, to and from a request, in PNG, JPEG and WebP files.

The text is the prompt, a `Negative prompt:` part and one last line of `Key: value` pairs, as written by
`create_infotext` and read by `parse_generation_parameters` in stable-diffusion-webui. It is written from, and
checked against, the declarations in requests.py. Text from a picture is a stranger's: it is capped, read in
linear time, and never trusted further than a request would be.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import ExifTags, Image, PngImagePlugin
from pydantic.fields import FieldInfo

from .errors import RequestError
from .requests import MAX_PROMPT, SHOWN_INPUT, TASKS, Request, extra_of, make
from .settings import VERSION

MAX_TEXT = 100_000  # characters that are read
MAX_PAIRS = 500
MAX_NAME = 200  # of a sampler, schedule or model
MAX_VALUE = 2_000  # of a value that means nothing to us and is only shown
MAX_SHOWN = 20_000  # of one text chunk
MAX_CHUNKS = 64
MAX_DECODED_PX = 4096 * 4096

NEGATIVE = "Negative prompt"
PROGRAM = "Atelier"
OURS = f"{PROGRAM} {VERSION}"

# AUTOMATIC1111's order. Pairs that are not in it follow in the order they come.
_ORDER = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE hash", "VAE",
          "Denoising strength", "Clip skip", "Mask mode", "Mask blur", "Inpaint area", "Masked area padding",
          "Masked content")
# Every other field is written only where it differs from its default.
_ALWAYS = {*_ORDER[:6], "Size-1", "Size-2", "Model", "Denoising strength", "Mask blur"}
# Where AUTOMATIC1111 has other words for a value.
_WRITTEN: dict[str, dict[Any, str]] = {
    "mask_invert": {False: "Inpaint masked", True: "Inpaint not masked"},
    "tiling": {"both": "True"},
}
_READ = {name: {word: value for value, word in words.items()} for name, words in _WRITTEN.items()}
_SAME = ("Use same sampler", "Use same scheduler", "Use same checkpoint")
# What older versions put behind the sampler's name; longest first, so that "SGM Uniform" is not read as "Uniform".
_SCHEDULES = ("Align Your Steps GITS", "Align Your Steps 11", "Align Your Steps 32", "Align Your Steps",
              "Polyexponential", "SGM Uniform", "Exponential", "KL Optimal", "Automatic", "Uniform", "Karras",
              "Simple", "Normal", "Turbo", "Beta", "DDIM")

_FIELDS: dict[str, tuple[type[Request], str]] = {
    key.casefold(): (cls, name) for cls in TASKS.values() for name, info in cls.model_fields.items()
    if (key := extra_of(info)["infotext"]) and key != NEGATIVE}
_ALIASES = {"clip-skip": "clip skip", "soft inpainting enabled": "soft inpainting"}

_KEY = re.compile(r"\s*(\w[\w \-/]{0,63}):\s*")
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,3})?", re.ASCII)
_SIZE = re.compile(r"(\d{1,9})\s*x\s*(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Parsed:
    """What a text says. fields: checked values by field name. unknown: pairs that are no parameter of ours.

    notes: sentences about what was left out and why.
    """

    fields: dict[str, Any]
    unknown: dict[str, str]
    notes: tuple[str, ...]

    def for_task(self, cls: type[Request]) -> dict[str, Any]:
        """Every value that a text can carry for a kind of request; what this text does not say has its default."""
        carried = {name: info.default for name, info in cls.model_fields.items()
                   if name == "prompt" or extra_of(info)["infotext"]}
        return {name: self.fields.get(name, default) for name, default in carried.items()}


def infotext(request: Request, *, extra: Mapping[str, Any] | None = None, version: str = OURS) -> str:
    """Write the text AUTOMATIC1111 would write for one picture.

    request: a concrete one. extra: further pairs such as {"Model hash": "1234567890"}; they win over the request's
    own, and None leaves a pair out. version: name and number of the writing program. Unlike there, blanks around
    the prompt are kept, and no value is left away for being equal to its key, so that `parse` gives back exactly
    the request. The format has one hole: a line of the prompt that begins with "Negative prompt:" is read as the
    start of the negative prompt.
    """
    pairs = {**_pairs_of(request), **(extra or {})}
    keys = [key for key in _ORDER if key in pairs] + [key for key in pairs if key not in _ORDER]
    settings = [f"{key}: {_quoted(pairs[key])}" for key in keys if pairs[key] is not None]
    lines = [request.prompt] if request.prompt else []
    lines += [f"{NEGATIVE}: {request.negative_prompt}"] if request.negative_prompt else []
    return "\n".join([*lines, ", ".join([*settings, f"Version: {version}"])])


def _pairs_of(request: Request) -> dict[str, Any]:
    pairs = {}
    for name, info in type(request).model_fields.items():
        key, value = extra_of(info)["infotext"], getattr(request, name)
        padding_matters = name == "masked_padding" and request.inpaint_area == "Only masked"
        if not key or key == NEGATIVE or value is None:
            continue
        second_pass = name == "hires_strength"
        always = request.hires_scale > 1 if second_pass else key in _ALWAYS
        if always or value != info.default or padding_matters:
            pairs[key] = _WRITTEN.get(name, {}).get(value, value)
    width, height = pairs.pop("Size-1", None), pairs.pop("Size-2", None)
    return {**pairs, "Size": f"{width}x{height}" if width and height else None}


def _quoted(value: Any) -> str:
    """Quote as AUTOMATIC1111 does, and also what its reader would strip or unquote."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    plain = text and text.isprintable() and text == text.strip() and text[0] != '"' and not set(text) & set(",:")
    return text if plain else json.dumps(text, ensure_ascii=False)


def parse(text: Any, allowed: Mapping[str, Collection[str]] | None = None) -> Parsed:
    """Read a text of AUTOMATIC1111, Forge, SD.Next, Civitai or our own. Never raises; takes linear time.

    allowed: names that may be chosen, by field: {"model": [...], "sampler": [...]}; any other becomes a note.
    Fields whose values a request would refuse become notes as well.
    """
    if not isinstance(text, str):
        return Parsed({}, {}, ("There is no text to read.",))
    notes = []
    if len(text) > MAX_TEXT:
        notes.append(f"The text is {len(text):,} characters long; only the first {MAX_TEXT:,} were read.")
    lines = text[:MAX_TEXT].split("\n")
    at, pairs = _settings_line(lines)
    if pairs.get("Version", "").startswith(f"{PROGRAM} ") and not lines[at].endswith("\r"):
        prompt, negative = _prompts(lines[:at])
    else:  # other writers strip every line, and a Windows editor puts a \r behind each
        prompt, negative = (part.strip() for part in _prompts([line.strip() for line in lines[:at]]))
    if any(line.strip() for line in lines[at + 1:]):
        notes.append("The lines below the settings were left out.")
    fields: dict[str, Any] = {"clip_skip": 1} if pairs else {}
    for name, value in {"prompt": prompt, "negative_prompt": negative}.items():
        if len(value) > MAX_PROMPT:
            notes.append(f"{Request.model_fields[name].title}: only the first {MAX_PROMPT:,} of {len(value):,} "
                         "characters were taken.")
        fields[name] = value[:MAX_PROMPT]
    unknown = {}
    for key, value in _normal(pairs).items():
        cls, name = _FIELDS.get(_ALIASES.get(key.casefold(), key.casefold()), (None, ""))
        if cls is None:
            unknown[key] = value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}..."
            continue
        try:
            fields[name] = _checked(cls, name, value, (allowed or {}).get(name))
        except RequestError as error:
            notes.append(str(error))
    if "strength" in fields:  # one key for what are two fields here
        fields["hires_strength"] = fields["strength"]
    return Parsed(fields, unknown, tuple(notes))


def _settings_line(lines: list[str]) -> tuple[int, dict[str, str]]:
    """Find the last line with at least three pairs, one of them known; without one, everything is prompt."""
    for at in range(len(lines) - 1, -1, -1):
        pairs = _pairs(lines[at])
        if len(pairs) >= 3 and any(key.casefold() in _FIELDS or key == "Size" for key in pairs):
            return at, pairs
    return len(lines), {}


def _pairs(line: str) -> dict[str, str]:
    """Split `Key: value, Key: "quoted, value", Key: [{"inline": "JSON"}]`; what is no pair is skipped."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(line) and len(pairs) < MAX_PAIRS:
        key = _KEY.match(line, position)
        start = key.end() if key else position
        value, end = _json_value(line, start) if key and line[start:start + 1] in ('"', "[", "{") else (None, -1)
        if value is None:
            end = line.find(",", start)
            end = len(line) if end < 0 else end
            value = line[start:end].strip()
        if key:
            pairs[key[1].strip()] = value
        position = end + 1
    return pairs


def _json_value(line: str, start: int) -> tuple[str | None, int]:
    """Read a quoted string, or the inline JSON that Civitai writes; (None, -1) if no JSON value ends at a comma."""
    try:
        value, end = json.JSONDecoder().raw_decode(line, start)
    except (ValueError, RecursionError):
        return None, -1
    while line[end:end + 1] == " ":
        end += 1
    if line[end:end + 1] not in ("", ","):
        return None, -1
    return value if isinstance(value, str) else line[start:end].strip(), end


def _prompts(lines: list[str]) -> tuple[str, str]:
    mark = f"{NEGATIVE}:"
    at = next((at for at, line in enumerate(lines) if line.lstrip().startswith(mark)), len(lines))
    negative = "\n".join(lines[at:]).lstrip().removeprefix(mark).removeprefix(" ")
    return "\n".join(lines[:at]), negative


def _normal(pairs: dict[str, str]) -> dict[str, str]:
    """Turn `Size: 512x768` and `Sampler: DPM++ 2M Karras` into the two pairs each stands for."""
    pairs = dict(pairs)
    if size := _SIZE.fullmatch(pairs.get("Size", "")):
        del pairs["Size"]
        pairs |= {"Size-1": size[1], "Size-2": size[2]}
    sampler = pairs.get("Sampler", "")
    if "Schedule type" in pairs:
        written = _squashed(pairs["Schedule type"])
        pairs["Schedule type"] = next((s for s in _SCHEDULES if _squashed(s) == written), pairs["Schedule type"])
    elif tail := next((s for s in _SCHEDULES if sampler.casefold().endswith(f" {s.casefold()}")), None):
        pairs |= {"Sampler": sampler[:-len(tail)].strip(), "Schedule type": tail}
    return pairs


def _squashed(name: str) -> str:
    return name.replace(" ", "").replace("_", "").casefold()


def _checked(cls: type[Request], name: str, text: str, allowed: Collection[str] | None) -> Any:
    """Turn the text of one pair into the field's value, or raise RequestError."""
    info = cls.model_fields[name]
    shown = repr(text[:SHOWN_INPUT])
    if len(text) > MAX_NAME:
        raise RequestError(f"{info.title}: {shown}... is longer than {MAX_NAME} characters.", name)
    if allowed is not None and text not in allowed or name == "sampler" and text == "Undefined":
        raise RequestError(f"{info.title}: {shown} is not known here.", name)
    value = _READ.get(name, {}).get(text, None if text in _SAME else _typed(info, text))
    return getattr(make(cls, **{name: value}), name)


def _typed(info: FieldInfo, text: str) -> Any:
    kinds = (info.annotation, *get_args(info.annotation))
    if bool in kinds:
        return {"True": True, "False": False}.get(text, text)
    return float(text) if (int in kinds or float in kinds) and _NUMBER.fullmatch(text) else text


def read(source: Image.Image | str | os.PathLike) -> str | None:
    """Return the generation text of a PNG, JPEG or WebP picture, or None. Raises RequestError for other files."""
    texts = _texts(source)
    text = texts.get("parameters") or texts.get("UserComment")
    return text[:MAX_TEXT] if text else None


def all_text(source: Image.Image | str | os.PathLike) -> dict[str, str]:
    """Return every text a picture carries, by the name of its chunk or EXIF tag, cut to what can be shown."""
    return {key[:80]: value[:MAX_SHOWN] for key, value in list(_texts(source).items())[:MAX_CHUNKS]}


def _texts(source: Image.Image | str | os.PathLike) -> dict[str, str]:
    try:
        if not isinstance(source, Image.Image):
            with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as image:
                return _texts(image)
        texts = source.info
        if isinstance(source, PngImagePlugin.PngImageFile) and source.width * source.height <= MAX_DECODED_PX:
            texts = {**texts, **source.text}  # decodes the pixels, because text may stand behind them
    except ValueError:  # Pillow's caps: 1 MB a chunk, 64 MB a file
        raise RequestError("Picture: the text in it is larger than 1 MB when unpacked.", "image") from None
    except Image.DecompressionBombError:
        raise RequestError("Picture: it has too many pixels to be opened.", "image") from None
    except (OSError, SyntaxError):
        if not isinstance(source, Image.Image):
            raise RequestError("Picture: this is not a whole PNG, JPEG or WebP file.", "image") from None
        texts = source.info
    found = {str(key): str(value) for key, value in texts.items() if isinstance(value, str)}
    if isinstance(texts.get("comment"), bytes):
        found["comment"] = texts["comment"].decode("utf-8", "replace")
    return {**found, **_exif_texts(source)}


def _exif_texts(image: Image.Image) -> dict[str, str]:
    if "exif" not in image.info:
        return {}
    try:
        exif = image.getexif()
        tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:  # a damaged block fails in many ways, and the picture is good without it
        return {}
    comment = tags.pop(ExifTags.Base.UserComment, None)
    texts = {str(ExifTags.TAGS.get(tag, tag)): value for tag, value in tags.items() if isinstance(value, str)}
    return texts if comment is None else {**texts, "UserComment": _user_comment(comment)}


def _user_comment(raw: Any) -> str:
    """Decode an EXIF UserComment: eight bytes name the encoding; the byte order of UTF-16 has to be guessed."""
    if not isinstance(raw, bytes):
        return str(raw)
    head, body = raw[:8], raw[8:8 + 2 * MAX_TEXT]
    if head.upper() != b"UNICODE\0":
        return (body if head in (b"ASCII\0\0\0", bytes(8)) else raw).decode("utf-8", "replace").strip("\0")
    if body[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return body.decode("utf-16", "replace").strip("\0")
    big = body[0::2].count(0) >= body[1::2].count(0)  # the settings are ASCII: their high bytes are 0
    return body.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0")


def png_bytes(image: Image.Image, text: str | None) -> bytes:
    """Encode as PNG with the text in a `parameters` chunk; None writes no text at all."""
    return _encoded(image, text, "PNG")


def save_png(image: Image.Image, path: str | os.PathLike, text: str | None) -> None:
    """Write a PNG file so that it is there whole or not at all. Raises OSError."""
    _write(Path(path), png_bytes(image, text))


def save(image: Image.Image, path: str | os.PathLike, text: str | None) -> None:
    """Write a PNG, JPEG or WebP file, by its suffix, whole or not at all. Raises OSError; RequestError by suffix."""
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise RequestError(f"File type: {suffix[:SHOWN_INPUT]!r} is not possible. Known are {', '.join(formats)}.")
    _write(Path(path), _encoded(image, text, formats[suffix]))


def _encoded(image: Image.Image, text: str | None, file_format: str) -> bytes:
    # Pillow would carry comments of the source file along, so only what changes how pixels look is kept.
    image, info = image.copy(), image.info
    image.info = {key: info[key] for key in ("transparency",) if key in info}
    options: dict[str, Any] = {"icc_profile": info.get("icc_profile")}
    if text is not None:
        text = text.encode("utf-8", "replace").decode()  # lone surrogates have no place in a file
    if file_format == "PNG" and text is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("parameters", text)
    elif file_format != "PNG":
        options |= {"quality": 95}
        comment = b"UNICODE\0" + (text or "").encode("utf-16-be")
        if text is not None and len(comment) < 65_000:  # what one JPEG segment holds
            exif = Image.Exif()
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
            options["exif"] = exif
    if file_format == "JPEG" and image.mode not in ("RGB", "L", "CMYK"):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
