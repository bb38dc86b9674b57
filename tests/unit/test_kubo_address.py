"""The addresses of Kubos among peers: which are taken, and which belong to one peer."""

import pytest

from executor.content.kuboaddress import by_peer, swarm_address
from executor.errors import InvalidInput

ONE, OTHER = "12D3KooW" + "a" * 44, "Qm" + "b" * 44
TAKEN = {
    "IPv4": f"/ip4/203.0.113.7/tcp/4001/p2p/{ONE}",
    "IPv6": f"/ip6/2001:db8::7/udp/4001/quic-v1/p2p/{ONE}",
    "IPv6 on loopback": f"/ip6/::1/tcp/4001/p2p/{ONE}",
    "a name": f"/dns4/kubo.example/tcp/443/tls/ws/p2p/{OTHER}",
    "through another peer": f"/ip4/203.0.113.7/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{ONE}",
}
REFUSED = {
    "nothing": "",
    "no id": "/ip4/127.0.0.1/tcp/4001",
    "an id alone": f"/p2p/{ONE}",
    "an option": f"/ip4/1?arg=/p2p/{ONE}",
    "a second argument": f"/ip4/1.2.3.4&arg=/p2p/{ONE}",
    "a line more": f"/ip4/203.0.113.7/tcp/4001/p2p/{ONE}\n",
    "a NUL": f"/ip4/203.0.113.7\0/tcp/4001/p2p/{ONE}",
    "an escape": f"/ip4/203.0.113.7/tcp/%34001/p2p/{ONE}",
    "letters that look alike": f"/ip4/203.0.113.7/tcp/\uff14001/p2p/{ONE}",
    "no end": "/a" * 500 + f"/p2p/{ONE}",
}


@pytest.mark.parametrize("address", TAKEN.values(), ids=TAKEN)
def test_an_address_of_a_peer_is_taken_as_it_stands(address):
    assert swarm_address(address) == address


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED)
def test_attack_what_could_be_anything_else_is_refused(address):
    with pytest.raises(InvalidInput, match="no address of a peer"):
        swarm_address(address)


def test_addresses_belong_to_the_peer_that_each_ends_with():
    direct, relayed, other = (TAKEN[name] for name in ("IPv4", "through another peer", "a name"))

    assert by_peer([direct, other, relayed]) == {ONE: (direct, relayed), OTHER: (other,)}
