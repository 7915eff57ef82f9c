"""A set of pictures by the name that a request gives it."""

from __future__ import annotations

from . import data, hub


def load(name: str, side: int | None = None, token: str = "") -> data.TinySet:
    """One that is here, by name or folder as `data.load` takes it, or "hub:owner/name" of the hub.

    side: pixels; None keeps the set's own (folders and the hub: 32). token: the hub's.
    """
    if name.startswith(data.HUB):
        return hub.data_set(name.removeprefix(data.HUB), side or data.DEFAULT_SIDE, token)
    return data.load(name, side)
