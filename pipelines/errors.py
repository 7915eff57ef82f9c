"""Every error the engine raises on purpose. The text is for the person at the page: no paths, no module names."""

from __future__ import annotations

SHOWN = 40  # characters of a name or value that a sentence repeats


def quoted(value: object, most: int = SHOWN) -> str:
    """A name or a wrong value as sentences repeat it: quoted, and cut where it is longer than `most` characters."""
    if isinstance(value, str):
        return repr(value) if len(value) <= most else f"{value[:most]!r}..."
    shown = repr(value)
    return shown if len(shown) <= most else f"{shown[:most]}..."


class StudioError(Exception):
    """Something went wrong in a way that can be said in one plain sentence."""


class RequestError(StudioError):
    """A request that cannot be run as asked.

    field: name of the request's field, or "" when no single field is to blame.
    """

    def __init__(self, message: str, field: str = ""):
        super().__init__(message)
        self.field = field


class SettingsError(StudioError):
    """A setting that does not exist or cannot have the value given."""


class ModelError(StudioError):
    """A checkpoint that is missing, damaged or of a kind that is not supported."""


class OutOfMemory(StudioError):
    """The device has no room for the request, even in its smallest form."""


class EngineLost(StudioError):
    """The process that computed has ended; nothing else has."""


class Cancelled(StudioError):
    """The job was stopped; what was finished before is kept."""


class QueueFull(StudioError):
    """Too many jobs are waiting."""
