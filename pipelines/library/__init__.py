"""Every checkpoint, LoRA, autoencoder and embedding that lies on this machine, in the folders of any program.

folders     which places: our own, --model-dir, and in them the layouts of other programs; the hub's cache
walk        a place -> the files in it that may be models, with what tells that one has changed
recognise   one file or folder -> what it is, by its content
sidecars    what lies beside a file: picture, notes, trigger words
store       what was read, kept in one small SQLite file
scan        folders + store -> everything found, only what is new being read
entry       one thing found, as the page shows it; words to search by
hashes      the hashes of files, each read once
library     Library: keeps the list, refreshes it and computes hashes in the background
embeddings  embedding files -> vectors
convert     pickles -> safetensors, in a process of its own (python -m pipelines.library convert FILE)

read        what a file says by its header and names, no torch: a package of its own

Files of other programs are read and never changed; nothing is unpickled here. Torch only inside embeddings.read and
the converting process.
Start reading at scan.py. To support another program's layout, add it to folders.py; another
kind of file, to recognise.py.
"""

from .entry import KINDS, LibraryEntry
from .folders import places
from .library import Library, Progress

__all__ = ["KINDS", "Library", "LibraryEntry", "Progress", "places"]
