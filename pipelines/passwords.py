"""Which passwords a page may be protected by. Imports no torch."""

from __future__ import annotations

from .errors import SettingsError

MIN_PASSWORD = 8  # characters, where others can reach the page
MIN_DIFFERENT = 3  # characters
WELL_KNOWN = frozenset((
    "admin", "administrator", "admin123", "admin1234", "root", "toor", "user", "guest", "test", "test123",
    "test1234", "demo", "default", "master", "secret", "secret123", "password", "passwort", "passw0rd",
    "password1", "password123", "pass", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789",
    "1234567890", "qwerty", "qwerty123", "qwertyui", "qwertyuiop", "asdf", "asdfgh", "abc123", "abcd1234",
    "letmein", "letmein1", "changeme", "changeit", "welcome", "welcome1", "iloveyou", "sunshine", "princess",
    "football", "baseball", "superman", "dragon", "monkey", "trustno1", "1q2w3e4r", "1qaz2wsx", "atelier",
    "atelier1", "gradio", "gradio123", "diffusion", "stablediffusion",
))


def refuse_weak(login: tuple[str, str] | None, is_public: bool) -> None:
    """Raise SettingsError for a password that is among the first that are tried, or too short for a public page.

    login: name and password, both not empty; None where nobody logs in.
    """
    if login is None:
        return
    user, password = login
    if password.casefold() in WELL_KNOWN | {user.casefold()} or len(set(password)) < MIN_DIFFERENT:
        raise SettingsError("auth: this password is among the first that are tried; choose another one.")
    if is_public and len(password) < MIN_PASSWORD:
        raise SettingsError(f"auth: the password has {len(password)} characters; a page that others can reach needs "
                            f"at least {MIN_PASSWORD}.")
