"""What is installed beside the app. torchvision must stay out: beside a CPU torch it breaks the import of diffusers."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"torchvision", "spandrel", "open-clip-torch", "timm"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    """name -> version of each line `name==version`."""
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines if line)
            if not name.startswith("-")}


def brought_by(names: set[str]) -> set[str]:
    """Everything that the installed packages `names` ask for, over any number of steps; extras are not followed."""
    from packaging.requirements import Requirement

    reached, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        reached.add(name)
        try:
            wanted = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:  # for another system
            continue
        chosen = {canonical(one.name) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
        waiting |= chosen - reached
    return reached


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_no_requirement_brings_torchvision(file):
    reached = brought_by(set(pins("requirements.txt")) | set(pins(file)))
    assert "numpy" in reached  # the walk does reach what only others ask for
    assert "filelock" in reached
    assert not reached & FORBIDDEN


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_exactly(file):
    loose = {name: version for name, version in pins(file).items() if not re.fullmatch(r"[0-9]+(\.[0-9]+)+", version)}
    assert not loose


def test_the_lock_has_every_pin_and_a_hash_for_each_package():
    text = (ROOT / "requirements-lock.txt").read_text()
    entries = re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    locked = {canonical(name): version for name, version, _ in entries}
    assert len(entries) == len(re.findall(r"^[\w.-]+==", text, re.M)) > 50
    assert pins("requirements.txt").items() <= locked.items()
    assert not locked.keys() & FORBIDDEN


def test_the_torch_that_is_installed_is_the_pinned_one():
    import torch

    assert torch.__version__.split("+")[0] == pins("requirements.txt")["torch"]
