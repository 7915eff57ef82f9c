"""The families of models that can be run, one file each. Imports no torch, and no family imports another.

Start at family.py: `Family` lists what a family is, `Facts` what it is recognised by. To add one, put a file here
that exports FAMILY, and for original single files a folder of configs under configs/.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from ..errors import ModelError
from .family import Facts, Family

__all__ = ["FAMILIES", "Facts", "Family", "recognise"]


def _discover() -> Mapping[str, Family]:
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    found = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    return MappingProxyType({family.name: family for family in sorted(found, key=lambda family: family.native_size)})


FAMILIES: Mapping[str, Family] = _discover()


def recognise(facts: Facts) -> Family:
    """Return the one family that `facts` belong to, or raise ModelError saying what was seen."""
    matching = [family for family in FAMILIES.values() if family.matches(facts)]
    if len(matching) != 1:
        known = ", ".join(family.label for family in FAMILIES.values())
        raise ModelError(f"This kind of model is not supported: {facts.seen}. Supported are {known}.")
    if matching[0].stock is None and facts.in_channels not in (4, 9):
        raise ModelError(f"A {matching[0].label} model with {facts.in_channels} input channels is not supported: "
                         "4 (drawing) or 9 (inpainting) are.")
    return matching[0]
