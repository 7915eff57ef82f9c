"""Wrong passwords: each makes the next guess wait longer, for whoever guesses and not for those who are known.

A device that has logged in before has a counter of its own, so that no stranger can keep it out. Strangers are counted
by the address at the other end of the connection, and apart from those who come through the public link; what they say
of themselves in headers is not believed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..visitors import Visitor
from .refused import Refused
from .sparse import Sparse

log = logging.getLogger(__name__)

FREE = 4  # wrong guesses that make nobody wait
LONGEST_S = 30.0  # the delay stops growing here: two guesses a minute
LINE_S = 60.0  # who would wait longer than this is sent away
FORGET_S = 60.0  # one wrong guess is forgotten after this long
COUNTERS = 10_000


@dataclass
class _Counter:
    """wrong: guesses, those under way included. free_at: when the next one is looked at. seen: the last one's time."""

    wrong: float = 0
    free_at: float = 0
    seen: float = 0


class Throttle:
    """Gives each guess its turn. clock, sleep: seconds, and how to wait for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], Awaitable[None]] = asyncio.sleep):
        self._clock, self._sleep = clock, sleep
        self._counters: OrderedDict[str, _Counter] = OrderedDict()
        self._lines = Sparse(log.warning, "wrong logins")

    async def turn(self, who: str) -> None:
        """Wait until a guess may be looked at. Raise Refused when too many wait already."""
        now, counter = self._clock(), self._counter(who)
        counter.wrong = max(0.0, counter.wrong - max(0.0, now - counter.seen) / FORGET_S)
        wait_s = max(0.0, counter.free_at - now)
        if wait_s > LINE_S:
            self._lines.count()
            raise Refused(429, f"Too many wrong passwords. Try again in {wait_s:.0f} seconds.", int(wait_s) + 1)
        counter.wrong += 1  # until it turns out to be right: else many at once would all be free
        counter.seen = now
        counter.free_at = now + wait_s + delay_s(counter.wrong)
        if wait_s:
            await self._sleep(wait_s)

    def right(self, who: str, is_known: bool) -> None:
        """Take the guess back. A known device's wrong ones are forgotten with it; strangers' are not one person's."""
        counter = self._counter(who)
        counter.wrong = 0 if is_known else max(0.0, counter.wrong - 1)
        counter.free_at = min(counter.free_at, self._clock() + delay_s(counter.wrong))

    def wrong(self, who: str) -> None:
        """Write a wrong guess to the log. Neither name nor password: one is often typed in the place of the other."""
        self._lines(f"Wrong name or password from {who}; {self._counter(who).wrong:.0f} in a row.")

    def _counter(self, who: str) -> _Counter:
        counter = self._counters.setdefault(who, _Counter())
        self._counters.move_to_end(who)
        while len(self._counters) > COUNTERS:
            self._counters.popitem(last=False)
        return counter


def delay_s(wrong: float) -> float:
    """Seconds between two guesses after so many wrong ones: none, then 1, 2, 4 ... up to LONGEST_S."""
    return 0.0 if wrong <= FREE else min(LONGEST_S, 2.0 ** min(wrong - FREE - 1, 20))


def counted_as(visitor: Visitor, peer: str, through_link: bool) -> str:
    """Return whose guess it is, in words for the log."""
    if visitor.has_logged_in:
        return f"a device that has logged in before ({visitor.id[:8]})"
    return f"{_network(peer)}{' through the public link' if through_link else ''}"


def _network(peer: str) -> str:
    """An address; of IPv6 its /64, all of which one person has."""
    try:
        found = ipaddress.ip_address(peer)
    except ValueError:
        return "an unknown address"
    return peer if found.version == 4 else str(ipaddress.ip_network((peer, 64), strict=False))
