"""Only listed hosts are reached, encrypted, at public addresses, and a redirect is judged like a wish."""

from __future__ import annotations

import socket

import pytest
from pydantic import SecretStr

from pipelines.downloads.network import HOSTS, Broken, Network, Refused
from pipelines.errors import ModelError


def answering(*addresses: str):
    def resolve(host, port, **_):
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in address], socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
    return resolve


@pytest.mark.parametrize(("url", "words"), [
    ("http://huggingface.co/x", "Only https"), ("file:///etc/passwd", "no address"),
    ("ftp://huggingface.co/x", "Only https"),
    ("https://example.org/x", "not among the hosts"), ("https://evilhuggingface.co/x", "not among the hosts"),
    ("https://huggingface.co.evil.org/", "not among the hosts"), ("https://127.0.0.1/x", "not among the hosts"),
    ("https://huggingface.co:22/x", "not among the hosts"), ("https://me:pw@huggingface.co/x", "name or a password"),
    ("https://[::1/x", "no address"), ("https://", "no address"), ("https://huggingface.co/a b", "no address"),
    ("https://huggingface.co/\r\nX: y", "no address"), ("https://huggingface.co/" + "x" * 5000, "no address"),
    ("https://huggingface.co:99999/", "no address")])
def test_an_address_that_may_not_be_reached_is_refused(url, words):
    def resolve(*_, **__):
        raise AssertionError("nobody looks up the name of a host that is not listed")
    with pytest.raises(Refused, match=words):
        Network(HOSTS, resolve=resolve).check(url)


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"])
def test_a_name_that_leads_into_a_private_network_is_refused(address):
    with pytest.raises(Refused, match="inside a private network"):
        Network(HOSTS, resolve=answering("140.82.112.3", address)).check("https://huggingface.co/x")


def test_a_listed_host_and_its_subdomains_are_allowed():
    network = Network(HOSTS, resolve=answering("140.82.112.3", "2606:4700::1"))
    for url in ("https://huggingface.co/x", "https://cdn-lfs.hf.co:443/x?y=z", "https://HuggingFace.co./x"):
        assert network.check(url) == ("140.82.112.3", "2606:4700::1")


def test_a_name_that_nobody_knows_is_no_crash():
    def resolve(*_, **__):
        raise socket.gaierror("not known")
    with pytest.raises(Broken, match="cannot be found"):
        Network(HOSTS, resolve=resolve).check("https://huggingface.co/")


def test_the_address_that_was_judged_is_the_one_that_is_reached(server):
    """A name that changes its address between judging and connecting would gain nothing."""
    server.files["/x"] = b"here"
    port = server.server_port
    looked_up = []

    def resolve(host, *rest, **_):
        looked_up.append(host)
        return answering("127.0.0.1")(host, *rest)
    with Network((f"http://models.test:{port}",), resolve=resolve).open(f"http://models.test:{port}/x") as response:
        assert response.read(10) == b"here"
    assert looked_up == ["models.test"]
    assert server.asked[0][1]["host"] == f"models.test:{port}"


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "https://169.254.169.254/",
                                    "http://localhost:9/x", "//127.0.0.1:9/x", "file:///etc/passwd",
                                    "https://example.org/x"])
def test_a_redirect_to_anywhere_else_is_refused(server, network, target):
    server.moved["/x"] = target
    with pytest.raises(Refused):
        network.open(f"{server.origin}/x")
    assert server.paths() == ["/x"]


def test_a_redirect_is_followed_and_circles_are_not(server, network):
    server.moved |= {"/x": "/y", "/y": f"{server.origin}/z", "/round": "/round"}
    server.files["/z"] = b"here"
    with network.open(f"{server.origin}/x") as response:
        assert (response.read(10), response.url) == (b"here", f"{server.origin}/z")
    with pytest.raises(Refused, match="circles"):
        network.open(f"{server.origin}/round")


def test_a_token_goes_to_its_own_host_and_no_further(server, caplog):
    other = f"http://localhost:{server.server_port}"
    server.moved["/x"] = f"{other}/y?signature=abc"
    server.files["/y"] = b"here"
    network = Network((server.origin, other), {f"127.0.0.1:{server.server_port}": SecretStr("a-secret-token")})
    caplog.set_level("DEBUG")
    network.open(f"{server.origin}/x").__exit__()
    sent = [headers.get("authorization") for _, headers in server.asked]
    assert sent == ["Bearer a-secret-token", None]
    assert "a-secret-token" not in f"{network!r} {caplog.text}"
    assert "signature" not in caplog.text


def test_an_error_of_the_server_is_a_plain_sentence(server, network):
    with pytest.raises(ModelError, match="127.0.0.1 does not give it: there is nothing of that name"):
        network.json(f"{server.origin}/absent")
    server.files["/broken"] = b"{"
    with pytest.raises(ModelError, match="not readable"):
        network.json(f"{server.origin}/broken")
    server.files["/huge"] = b" " * 11_000_000
    with pytest.raises(ModelError, match="larger than"):
        network.json(f"{server.origin}/huge")


def test_a_certificate_that_is_not_valid_is_refused(server):
    origin = f"https://127.0.0.1:{server.server_port}"  # it speaks no TLS at all
    with pytest.raises((Refused, Broken)):
        Network((origin,)).open(f"{origin}/x")
