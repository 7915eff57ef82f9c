"""Bytes of a text file -> text: in the chosen encoding, else UTF-8 where it fits; the rest is told. No torch."""

from __future__ import annotations

import re
from typing import Literal, get_args

Encoding = Literal["auto", "gbk", "big5", "shift-jis", "euc-jp", "euc-kr", "windows-1250", "windows-1251",
                   "windows-1252", "utf-16-le", "utf-16-be"]
# Python's codec of each: the largest of those that go by the name.
CODECS = dict(zip(get_args(Encoding), ("", "gb18030", "big5hkscs", "cp932", "euc_jp", "cp949", "cp1250", "cp1251",
                                       "cp1252", "utf-16-le", "utf-16-be"), strict=True))
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
         (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
UNREADABLE = "it is neither UTF-8 nor Western European text; choose its encoding, or save it as UTF-8"
PUNCTUATION = re.compile(rb"[\x85\x91-\x97\xa0\xab\xbb]")  # of code page 1252, beside any letter
# What no Western text has: three accented letters in a row, or two of which one is a capital or a sign.
OTHER_SCRIPT = re.compile(rb"[\x80-\xff]{3}|[\x80-\xde][\x80-\xff]|[\x80-\xff][\x80-\xde]")
ZEROS = 8  # UTF-16 of mostly Latin text has a zero in half of its bytes; less than one in so many is something else


def decode(data: bytes, encoding: str = "auto") -> tuple[str | None, str]:
    """Return the text, None when it cannot be read, and what is to be told of it, "" for nothing.

    encoding: of CODECS; that of texts without a byte order mark, tried before UTF-8, since short texts may be both.
    """
    for mark, codec in MARKS:
        if data.startswith(mark):
            text = _try_codec(data, codec)
            return (text, "") if text is not None else (None, UNREADABLE)
    wide = _utf_16(data)
    if wide:
        text = _try_codec(data, wide)
        return (text, "UTF-16 without a byte order mark") if text is not None else (None, UNREADABLE)
    text = _try_codec(data, "utf-8")
    if encoding != "auto":
        return _decode_chosen(data, encoding, text)
    if text is not None:
        return text, ""
    text = _try_codec(data, "cp1252") if _is_western(data) else None
    return (text, "not UTF-8; read as Western European text") if text is not None else (None, UNREADABLE)


def _decode_chosen(data: bytes, encoding: str, as_utf_8: str | None) -> tuple[str | None, str]:
    """Return what `decode` does for an encoding that a person chose. as_utf_8: the text if it is UTF-8."""
    text = _try_codec(data, CODECS[encoding])
    if text is None:
        return (None, f"it is not {encoding}") if as_utf_8 is None else (as_utf_8, f"not {encoding}; read as UTF-8")
    if as_utf_8 is None:
        return text, f"not UTF-8; read as {encoding}"
    return text, "" if text == as_utf_8 else f"both {encoding} and UTF-8; read as {encoding}"


def _try_codec(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeError:
        return None


def _utf_16(data: bytes) -> str:
    """The codec of UTF-16 without a byte order mark, by where its zeros are; "" for anything else."""
    even, odd = data[0::2].count(0), data[1::2].count(0)
    if len(data) % 2 or (even + odd) * ZEROS < len(data) or not even + odd:
        return ""
    return "utf-16-le" if not even else "utf-16-be" if not odd else ""


def _is_western(data: bytes) -> bool:
    letters = PUNCTUATION.sub(b"", data)
    accented = sum(byte > 127 for byte in letters)
    return accented * 2 <= len(letters) and OTHER_SCRIPT.search(letters) is None
