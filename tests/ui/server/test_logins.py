"""Guessing passwords: strangers slow down each other, and nobody who is known."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipelines.settings import load
from tests import coroutines
from tests.ui import web
from tests.ui.small_page import small_page
from ui.server.launch import Running, launch
from ui.server.logins import FREE, LINE_S, LONGEST_S, Throttle, counted_as, delay_s
from ui.server.refused import Refused
from ui.server.sparse import LINES
from ui.visitors import COOKIE, Visitor, Visitors

PASSWORD = "violet-otter-71"


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock=lambda: clock.now, sleep=clock.sleep)


@pytest.fixture
def locked(tmp_path: Path, throttle: Throttle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    flags = ["--data-dir", str(tmp_path), "--auth", f"ann:{PASSWORD}", "--host", "0.0.0.0"]
    running = launch(small_page(), load(flags, {}), port=0, throttle=throttle)
    yield running
    running.close()


def log_in(url: str, password: str, cookies: dict[str, str] | None = None, **headers: str) -> httpx.Response:
    return web.post(f"{url}login", data={"username": "ann", "password": password}, headers=headers, cookies=cookies)


def test_delays_grow_and_stop_growing() -> None:
    assert [delay_s(wrong) for wrong in range(FREE + 5)] == [0] * (FREE + 1) + [1, 2, 4, 8]
    assert delay_s(1000) == LONGEST_S


def test_wrong_guesses_make_the_next_ones_wait_and_are_forgotten(throttle: Throttle, clock: Clock) -> None:
    for _ in range(FREE + 3):
        coroutines.run(throttle.turn("10.0.0.1"))
    assert clock.waits == [1, 3]  # they wait in a line: many at once are not looked at at once
    coroutines.run(throttle.turn("10.0.0.2"))
    assert clock.waits == [1, 3]  # another address does not wait
    clock.now = 3600
    coroutines.run(throttle.turn("10.0.0.1"))
    assert clock.waits == [1, 3]


def test_only_so_many_wait_in_a_line(throttle: Throttle, clock: Clock) -> None:
    refused = 0
    for _ in range(500):
        try:
            coroutines.run(throttle.turn("10.0.0.1"))
        except Refused as error:
            refused += 1
            assert error.status == 429 and error.retry_after_s > LINE_S
    assert refused > 480 and max(clock.waits) <= LINE_S


def test_right_guesses_do_not_add_up(throttle: Throttle, clock: Clock) -> None:
    for _ in range(100):
        coroutines.run(throttle.turn("10.0.0.1"))
        throttle.right("10.0.0.1", is_known=False)
    assert clock.waits == []


@pytest.mark.parametrize("peer", ["2001:db8::1", "2001:db8::ffff:1"])
def test_all_addresses_of_a_network_are_one_stranger(peer: str) -> None:
    assert counted_as(Visitor(), peer, False) == "2001:db8::/64"
    assert counted_as(Visitor(), "127.0.0.1", True) == "127.0.0.1 through the public link"


def test_a_device_that_has_logged_in_before_is_not_kept_out(locked: Running, clock: Clock) -> None:
    """Neither by fifty guesses a second nor by what they claim; a new device waits for those before it."""
    device = {COOKIE: log_in(locked.url, PASSWORD).cookies[COOKIE]}
    answers = [log_in(locked.url, f"wrong {n}", **{"X-Forwarded-For": f"10.0.0.{n}"}).status_code for n in range(60)]
    assert answers.count(429) > 40 and answers.count(400) < 20
    clock.waits.clear()
    assert log_in(locked.url, PASSWORD, device).status_code == 200 and clock.waits == []
    forged = {COOKIE: device[COOKIE][:-1] + "x"}
    assert log_in(locked.url, PASSWORD, forged).status_code == 429
    assert [log_in(locked.url, f"wrong {n}", device).status_code for n in range(60)].count(429) > 40  # nor may it guess
    clock.now += 3600
    assert log_in(locked.url, PASSWORD).status_code == 200


def test_wrong_logins_are_written_down_without_what_was_typed(locked: Running, clock: Clock,
                                                              caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(3 * LINES):
            log_in(locked.url, f"my secret {number}", **{"X-Forwarded-For": "10.0.0.9"})
            clock.now += 600
    lines = [record.getMessage() for record in caplog.records if record.name == "ui.server.logins"]
    assert 0 < len(lines) <= LINES and all("127.0.0.1" in line for line in lines)
    assert not any("secret" in line or "10.0.0.9" in line or "ann" in line for line in lines)


def test_a_login_brings_eight_kilobytes(locked: Running) -> None:
    assert log_in(locked.url, "x" * 7000).status_code == 400
    answer = log_in(locked.url, "x" * 9000)
    assert answer.status_code == 413 and "8 kB" in answer.text


def test_the_owners_link_logs_in_and_makes_an_owner(locked: Running) -> None:
    with web.Client(follow_redirects=True) as owner:
        assert owner.get(locked.owner_url).status_code == 200
        assert owner.get(f"{locked.url}config").status_code == 200
    assert web.get(f"{locked.url}?owner=x").cookies == {} == web.get(f"{locked.url}?owner=").cookies
    assert web.get(f"{locked.url}config", follow_redirects=True).status_code == 401


def test_a_cookie_outlives_a_restart_and_its_key_is_nobodys_business(tmp_path: Path) -> None:
    first, again, other = Visitors.of(tmp_path), Visitors.of(tmp_path), Visitors.of(tmp_path / "other")
    cookie = first.cookie(first.welcome(Visitor(), has_logged_in=True)).split(";")[0].partition("=")[2]
    assert again.read({COOKIE: cookie}).has_logged_in and not again.read({COOKIE: cookie}).is_owner
    assert other.read({COOKIE: cookie}) == Visitor() == first.read({COOKIE: ""}) == first.read({COOKIE: "a.b"})
    assert (tmp_path / "cookies.key").stat().st_mode & 0o077 == 0
    assert first.link != again.link
