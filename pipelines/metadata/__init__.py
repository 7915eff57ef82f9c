"""The text a picture carries: what we write into it, and what every other tool writes.

May import the values (requests, errors, settings, images.files) and PIL; never torch. Start reading at a1111.py, the
text that we write ourselves, then fields.py (from a text's words to checked fields) and foreign.py (all other tools, a
file each). To add a tool, see foreign.py; to add the name of a sampler, see names.py.
"""

from .a1111 import OURS, PROGRAM, infotext, parse
from .containers import MAX_CHUNKS, MAX_DECODED_PX, MAX_SHOWN, all_text, png_bytes, read, save, save_animation, save_png
from .fields import MAX_NAME, MAX_PAIRS, MAX_TEXT, MAX_VALUE, NEGATIVE, Parsed
from .foreign import Found, parse_any, read_any
from .missing import merge

__all__ = ["MAX_CHUNKS", "MAX_DECODED_PX", "MAX_NAME", "MAX_PAIRS", "MAX_SHOWN", "MAX_TEXT", "MAX_VALUE", "NEGATIVE",
           "OURS", "PROGRAM", "Found", "Parsed", "all_text", "infotext", "merge", "parse", "parse_any",
           "png_bytes", "read", "read_any", "save", "save_animation", "save_png"]
