"""Which process is meant by a number: not a later one of that number, and whatever happens to the clock.

The system's date of a process is its age counted back from the clock, so on Linux it moves with the clock. What stays
is the count of ticks from boot to its start, and the name of that boot. Imports no torch.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PROC = Path("/proc")
MARK = ":"  # between the parts of a process's name, and in no other word


def describe(pid: int) -> dict[str, object]:
    """Say which process this is, for `is_running`: number, start, boot and machine."""
    return {"pid": pid, "started": started(pid), "boot": boot(), "host": socket.gethostname()}


def is_running(said: Mapping[str, object]) -> bool | None:
    """Whether the process that was described lives; None for one of another machine, which cannot be seen from here.

    A boot and a start say who it is, whatever the machine is called by now.
    """
    start, pid = said.get("started"), said.get("pid")
    of_this_boot = said.get("boot", "") == boot()
    if of_this_boot and start is not None and isinstance(pid, int) and started(pid) == start:
        return True
    return False if of_this_boot and said.get("host") == socket.gethostname() else None


def started(pid: int) -> str | None:
    """When a living process began, as a text that never changes while it lives; None for one that has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if sys.platform == "linux":
            # Behind the name, which may hold blanks and brackets, the state is field 3 and the ticks are field 22.
            return (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        return repr(process.create_time())
    except (psutil.Error, OSError, IndexError):
        return None


@cache
def boot() -> str:
    """A name for the time since this machine was started; "" where the system gives none."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def name_of(said: Mapping[str, object]) -> str:
    """One word for a process that was described."""
    return MARK.join(str(said.get(key, "")) for key in ("pid", "started", "boot"))


def own_name() -> str:
    """The word for this process."""
    return name_of(describe(os.getpid()))
