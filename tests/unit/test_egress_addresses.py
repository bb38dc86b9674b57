"""Which addresses a job may reach."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.egress.addresses import is_public, parsed

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"]
CLOSED = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:808:808::1", "3fff::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::1%eth0",
]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_reached(text):
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", CLOSED, ids=[f"abuse {text}" for text in CLOSED])
def test_an_address_of_a_special_purpose_may_not(text):
    assert not is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_what_the_standard_library_knows_as_closed_is_closed(address):
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@given(st.ip_addresses(v=6))
def test_what_it_knows_as_closed_of_ipv6_is_closed(address):
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_site_local:
        assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_gets_through_in_the_dress_of_an_ipv6_one(address):
    number = int(address)
    for base in (0, 0xFFFF << 32, 0x64FF9B << 96, (0x2002 << 112), (0x20010000 << 96)):
        shift = 80 if base == 0x2002 << 112 else 0
        assert not is_public(IPv6Address(base | number << shift))


def test_a_resolvers_answer_is_an_address_or_nothing():
    assert parsed("192.0.2.1") == IPv4Address("192.0.2.1")
    assert parsed("a.example.org") is None
