"""A package that the libraries import at once and few runs need: its code waits until something of it is asked for.

diffusers and peft import bitsandbytes wherever it is installed. That is a second of every start, a warning about a
kernel that nothing here uses, and, where the package "kernels" is installed, a program that is fetched from the hub.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from threading import RLock
from types import ModuleType

PACKAGE = "bitsandbytes"
FETCHES = "kernels"  # imported by it for no other end than to fetch a program
COMPLAINS = f"{PACKAGE}.backends.cpu.ops"  # the logger that says so when it could not


def postpone(name: str = PACKAGE) -> None:
    """Let a package that is installed be imported without its code being run. Before the first import of it."""
    if name not in sys.modules and (spec := find_spec(name)) is not None:
        sys.modules[name] = _Waiting(spec)


class _Waiting(ModuleType):
    """A module whose code runs when a name of it, or a module inside it, is first asked for."""

    def __init__(self, spec: ModuleSpec):
        super().__init__(spec.name, spec.name)
        # Those that look through all modules ask for the file. There is no __path__: asking for it means that a module
        # inside is wanted.
        self.__spec__, self.__loader__, self.__file__ = spec, spec.loader, spec.origin
        self.__dict__.update(_lock=RLock(), _runs=False)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        own = self.__dict__
        with own["_lock"]:  # a second thread waits for all of it
            if own["_runs"]:  # its own code asks for what is not there yet
                raise AttributeError(name)
            if type(self) is _Waiting:
                own["_runs"] = True
                try:
                    with _without_fetching():
                        self.__path__ = self.__spec__.submodule_search_locations
                        self.__spec__.loader.exec_module(self)
                    self.__class__ = ModuleType
                except BaseException:
                    del self.__path__  # the next one who asks is told the reason, too
                    raise
                finally:
                    own["_runs"] = False
        return getattr(self, name)


@contextmanager
def _without_fetching() -> Iterator[None]:
    before, complaining = sys.modules.get(FETCHES), logging.getLogger(COMPLAINS)
    sys.modules[FETCHES] = None  # an import of it fails, which is what the package is ready for
    complaining.addFilter(_is_of_use)
    try:
        yield
    finally:
        complaining.removeFilter(_is_of_use)
        if before is None:
            sys.modules.pop(FETCHES, None)
        else:
            sys.modules[FETCHES] = before


def _is_of_use(record: logging.LogRecord) -> bool:
    return FETCHES not in str(record.msg)
