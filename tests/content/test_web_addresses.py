"""Which hosts pictures are taken from, and that a name leads to no other than the one that was checked."""

import shutil
import socket
import ssl
import subprocess

import pytest

from recbole_perpeft.content.downloads import download_pictures
from recbole_perpeft.content.web_addresses import is_public
from tests.content.bad_server import BadServer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_private_hosts_are_refused_however_they_are_written(host, server, tmp_path):
    url = f"http://{host}:{server.server_port}/png"
    report = download_pictures({"a": [url]}, tmp_path, show_progress=False)
    assert "no public address" in report.failed["a"]
    assert not server.asked


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "192.0.2.1", "::1", "::", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1",
        "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "2002:808:808::"])
def test_public_addresses(address):
    assert is_public(address)


@pytest.fixture
def name_server(monkeypatch):
    """``name_server(*answers)`` stands in for the look-up of names: it gives these addresses in turn.

    Returns the list of names that were asked for.
    """
    look_up = socket.getaddrinfo

    def start(*answers):
        asked = []

        def stand_in(host, port, *arguments, **options):
            if not host.endswith(".test"):
                return look_up(host, port, *arguments, **options)
            addresses = answers[min(len(asked), len(answers) - 1)]
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", stand_in)
        return asked

    return start


def test_a_name_with_one_private_address_of_two_is_refused(server, tmp_path, name_server):
    name_server(["93.184.216.34", "127.0.0.1"])
    report = download_pictures({"a": [f"http://shop.test:{server.server_port}/png"]}, tmp_path, show_progress=False)
    assert "shop.test is at 127.0.0.1" in report.failed["a"]
    assert not server.asked


def test_a_name_is_looked_up_once_and_that_very_address_is_asked(server, tmp_path, name_server):
    looked_up = name_server(["127.0.0.9", "127.0.0.1"], ["127.0.0.9"])  # at .9 nobody listens
    urls = {item: [f"http://Shop.test:{server.server_port}/png?{item}"] for item in "abc"}
    report = download_pictures(urls, tmp_path, private_hosts=["shop.test"], workers=1, show_progress=False)
    assert len(report.files) == 3
    assert looked_up == ["shop.test"]  # one connection for all three
    assert server.hosts == [f"shop.test:{server.server_port}"] * 3


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")
@pytest.mark.parametrize(("name", "trusted"), [("shop.test", True), ("other.test", True), ("shop.test", False)])
def test_tls_is_checked_against_the_name(name, trusted, tmp_path, monkeypatch, name_server):
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2", "-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test", "-keyout", "key",
            "-out", "pem"]  # fmt: skip
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pem"))
    name_server(["127.0.0.1"])
    with BadServer() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "pem", tmp_path / "key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://{name}:{server.server_port}/png"
        report = download_pictures({"a": [url]}, tmp_path / "i", private_hosts=[name], show_progress=False)
    if name == "shop.test" and trusted:
        assert report.files == {"a": "a.png"}
        assert server.hosts == [f"shop.test:{server.server_port}"]
    else:
        assert "its certificate is not valid" in report.failed["a"]
        assert not server.asked


@pytest.mark.parametrize(
    "url", ["", "a.png", "file:///etc/hostname", "ftp://example.org/a.png", "http://", "http://u:p@127.0.0.1/", "//x/y"]
)
def test_what_is_no_url_of_the_web_is_not_fetched(url, tmp_path):
    report = download_pictures({"a": [url]}, tmp_path, private_hosts=["127.0.0.1"], show_progress=False)
    assert "URL" in report.failed["a"]
    assert not report.again
