"""A page behind a reverse proxy, over HTTP, with the headers that proxies send and those that they leave out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from pipelines.errors import StudioError
from pipelines.settings import load
from tests.ui import web
from tests.ui.small_page import small_page
from ui.server.launch import Running, launch

PUBLIC = "https://art.example.org/studio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--public-url", f"{PUBLIC}/",
                     "--auth", "ann:a good password 1"], {})
    assert settings.is_public and settings.public_url == PUBLIC
    running = launch(small_page(), settings, port=0)
    yield running
    running.close()


@pytest.fixture(scope="module")
def proxied(server: Running) -> Iterator[httpx.Client]:
    """A visitor who has logged in; nobody follows redirects for them."""
    assert any(PUBLIC in notice for notice in server.notices)
    with web.Client(base_url=server.url, timeout=60, headers={"Host": "art.example.org"}) as client:
        client.login = client.post("login", data={"username": "ann", "password": "a good password 1"},
                                   headers={"Origin": "https://art.example.org"})
        for cookie in client.login.headers.get_list("set-cookie"):  # the client keeps no secure ones over http
            name, _, value = cookie.partition(";")[0].partition("=")
            client.cookies.set(name, value)
        yield client


def test_a_password_is_asked_for_and_its_cookie_stays_on_the_encrypted_address(proxied: httpx.Client) -> None:
    assert proxied.login.status_code == 200
    assert all("secure" in cookie.lower() for cookie in proxied.login.headers.get_list("set-cookie"))
    anonymous = web.get(f"{proxied.base_url}gradio_api/info", headers={"Host": "art.example.org"})
    assert anonymous.status_code == 401


@pytest.mark.parametrize("path", ["config", "studio/config"])
@pytest.mark.parametrize("host", ["art.example.org", "art.example.org:443", "127.0.0.1"])
def test_the_page_names_its_public_address_whether_or_not_the_proxy_keeps_host_and_path(proxied, path, host) -> None:
    answer = proxied.get(path, headers={"Host": host})
    assert answer.status_code == 200 and answer.json()["root"] == PUBLIC


def test_the_address_without_its_slash_leads_to_the_page(proxied: httpx.Client) -> None:
    answer = proxied.get("studio")
    assert answer.is_redirect and answer.headers["location"] == f"{PUBLIC}/"
    assert proxied.get("studio/").status_code == 200
    assert proxied.get("studio2/config").status_code == 404


def test_the_owners_link_is_the_public_address_and_leads_to_the_page_there(server: Running, proxied) -> None:
    address, _, secret = server.owner_url.partition("?owner=")
    assert address == f"{PUBLIC}/" and secret
    for path in ("", "studio/"):
        answer = proxied.get(f"{path}?owner={secret}")
        assert answer.status_code == 302 and urljoin(address, answer.headers["location"]) == address


@pytest.mark.parametrize(("origin", "host", "status"), [
    ("https://art.example.org", "art.example.org", 200), ("https://art.example.org", "127.0.0.1", 200),
    ("https://evil.example.org", "art.example.org", 403), ("https://art.example.org.evil.org", "127.0.0.1", 403),
    ("http://art.example.org:8080", "127.0.0.1", 403), ("https://art.example.org", "evil.example.org", 400)])
def test_only_pages_of_the_public_address_may_send_requests(proxied, origin, host, status) -> None:
    assert proxied.get("config", headers={"Origin": origin, "Host": host}).status_code == status


@pytest.mark.parametrize("address", ["example.org", "ftp://example.org", "https://", "https://a:b@example.org",
                                     "https://example.org/?x", "https://example.org:99999", "https://example.org/#x"])
def test_what_is_no_address_of_a_page_is_refused_by_name(tmp_path: Path, address: str) -> None:
    with pytest.raises(StudioError, match="--public-url.*https://example.org/atelier"):
        load(["--data-dir", str(tmp_path), "--public-url", address], {})
