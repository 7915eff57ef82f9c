"""Compile the pretend card for the torch that is installed: once for each version of torch and of the source."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

NATIVE = Path(__file__).parent / "native"
COMPILER = "g++"


def torch_folder() -> Path:
    """Where torch lies; it is not imported."""
    return Path(importlib.util.find_spec("torch").submodule_search_locations[0])


def reason_against() -> str:
    """Say why the card cannot be had here, or ""."""
    if not sys.platform.startswith("linux"):
        return "the pretend card is built on Linux alone"
    if (torch_folder() / "lib" / "libtorch_cuda.so").is_file():
        return "this torch has CUDA of its own, beside which the pretend card cannot register"
    if shutil.which(COMPILER) is None:
        return f"the pretend card needs {COMPILER}"
    return ""


def library(cache: Path) -> Path:
    """Return the built library, which is made in `cache` unless it is there. Raises CalledProcessError."""
    sources = sorted(NATIVE.iterdir())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    target = cache / f"torch-{importlib.metadata.version('torch')}-{digest}" / "pretend_cuda.so"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{os.getpid()}.part")
        torch = torch_folder()
        subprocess.run([COMPILER, "-O1", "-std=c++20", "-fPIC", "-shared", f"-I{torch / 'include'}",
                        f"-I{torch / 'include/torch/csrc/api/include'}", str(NATIVE / "pretend_cuda.cpp"),
                        "-o", str(part), f"-L{torch / 'lib'}", "-ltorch_cpu", "-lc10"], check=True)
        part.replace(target)
    return target
