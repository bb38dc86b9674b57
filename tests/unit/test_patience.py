"""How long callers keep trying, and when they come again."""

import math

import pytest

from executor.content.patience import Patience
from executor.errors import PeerUnavailable


class Peer:
    """Away, and asks to be left alone for so long, `times` times; time goes by only while somebody pauses."""

    def __init__(self, asks, times=1):
        self.asks, self.times = asks, times
        self.now = 0.0
        self.pauses = []

    def call(self):
        if self.times:
            self.times -= 1
            raise PeerUnavailable("away", self.asks)
        return "here"

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def asked(self, deadline, stubborn=math.inf):
        return Patience(deadline, lambda: self.now, self.pause, stubborn).persist(self.call)


def test_who_is_told_when_to_come_again_comes_no_sooner():
    peer = Peer(asks=40.0)

    assert peer.asked(deadline=100.0) == "here"
    assert peer.pauses == [40.0]


def test_who_is_asked_to_wait_less_than_he_would_waits_as_ever():
    peer = Peer(asks=0.5, times=4)

    peer.asked(deadline=100.0)

    assert peer.pauses == [0.5, 0.5, 1.0, 2.0]


#: name -> (deadline, stubborn)
TOO_LONG = {"longer than there is time": (30.0, math.inf), "longer than is waited for nothing": (1000.0, 30.0)}


@pytest.mark.parametrize("name", TOO_LONG)
def test_who_is_asked_to_wait_for_too_long_says_so_at_once(name):
    peer = Peer(asks=40.0)

    with pytest.raises(PeerUnavailable):
        peer.asked(*TOO_LONG[name])
    assert peer.pauses == []
