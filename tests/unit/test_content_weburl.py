"""URLs of bridges and gateways."""

import pytest

from executor.content.weburl import base_url, is_base_url, shown
from executor.errors import InvalidInput

#: a URL -> how it is shown
SHOWN = {
    "https://gateway.example": "https://gateway.example",
    "https://gateway.example:8443/ipfs/": "https://gateway.example:8443/ipfs/",
    "https://user:pass@gateway.example/x": "https://***@gateway.example/x",
    "http://token@127.0.0.1:80": "http://***@127.0.0.1:80",
    "http://user:pa@ss@host": "http://***@host",
    "http://user:pa/ss@host": "http://***@host",
    "http://user:pa\nss@host": "http://***@host",
    "gateway.example": "gateway.example",
    "": "",
}


@pytest.mark.parametrize("url", SHOWN)
def test_a_url_is_shown_without_user_and_password(url):
    assert shown(url) == SHOWN[url]


NO_BASES = [
    "",
    "gateway.example",
    "ftp://gateway.example",
    "https://",
    "https://:80",
    "http://host:0",
    "http://host:99999",
    "http://host:port",
    "http://[::1",
    "https://host/?format=car",
    "https://host/#x",
    "https://host/{cid}",
    "https://host/a b",
    "https://host/\x1b[2J",
]


@pytest.mark.parametrize("url", NO_BASES)
def test_what_no_path_can_be_put_behind_is_refused_by_its_field(url):
    assert not is_base_url(url)
    with pytest.raises(InvalidInput, match=r"^--gateway: .* is no http://host or https://host"):
        base_url(url, "--gateway")


@pytest.mark.parametrize("url", ["https://host", "http://user:pass@[::1]:80/a/b"])
def test_a_base_has_no_slash_at_its_end(url):
    assert base_url(f"{url}/", "--gateway") == base_url(url, "--gateway") == url


def test_a_url_that_is_refused_is_told_without_its_password():
    with pytest.raises(InvalidInput) as caught:
        base_url("http://user:se/cret@host", "--gateway")

    assert "cret" not in str(caught.value)
