"""What a download reports. Events are values; the newest says all there is to know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Downloading:
    """done_bytes of total_bytes (0: not known yet) of all files together. seconds_left: None while nothing tells."""

    title: str
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Checking:
    """All is here; hashes are compared and the kind is read."""

    title: str


@dataclass(frozen=True)
class Paused:
    """It waits, with what it has; the next start of the program finds it so."""

    title: str
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True)
class Downloaded:
    """It is in its folder. kind: one of the library's; name: as the library will call it, unless that is taken."""

    title: str
    kind: str
    name: str


@dataclass(frozen=True)
class Stopped:
    """It was given up, and what there was of it is gone."""

    title: str


@dataclass(frozen=True)
class DownloadFailed:
    """error: a StudioError. can_resume: what is here is kept, and `resume` goes on."""

    title: str
    error: Exception
    can_resume: bool = False


DownloadEvent = Downloading | Checking | Paused | Downloaded | Stopped | DownloadFailed
