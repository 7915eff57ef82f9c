"""Weak passwords are refused when settings are read, before anything is built."""

from __future__ import annotations

import pytest

from pipelines.errors import SettingsError
from pipelines.settings import load

HERE = ["--data-dir", "/nowhere"]


@pytest.mark.parametrize("password", ["admin", "password", "1234", "ann", "ANN", "Password123", "changeme", "aaaaaaaa"])
def test_passwords_that_are_tried_first_are_refused_everywhere(password: str) -> None:
    with pytest.raises(SettingsError, match="auth: .* among the first that are tried"):
        load([*HERE, "--auth", f"ann:{password}"], {})
    with pytest.raises(SettingsError, match="auth: .* among the first that are tried"):
        load(HERE, {"ATELIER_AUTH": f"ann:{password}"})


def test_a_short_password_is_refused_where_others_can_reach_the_page() -> None:
    assert load([*HERE, "--auth", "ann:k7#q"], {}).login == ("ann", "k7#q")
    for public in (["--share"], ["--host", "0.0.0.0"], ["--public-url", "https://example.org"]):
        with pytest.raises(SettingsError, match="4 characters; a page that others can reach needs at least 8"):
            load([*HERE, "--auth", "ann:k7#q", *public], {})
    assert load([*HERE, "--auth", "ann:k7#qz9!w", "--share"], {}).is_public
