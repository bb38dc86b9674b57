"""What of the exchanges stands in the receipt, which everybody may read."""

import pytest

from executor.egress.heads import BadRequest
from executor.egress.journal import Journal
from executor.egress.record import Exchange, closed, shown
from executor.protocol.network import Destination

GRANTED = [Destination("a.example.org", (443,))]
LIMITS = {"bytesOut": 10, "bytesIn": 20, "exchanges": 3}
ROW = Exchange(at=1, method="GET", host="a.example.org", port=443, status=200, target_sha256="ab", address="192.0.2.1")


def record(*rows, omitted=0):
    return {"exchanges": [row.row() for row in rows], "omitted": omitted}


def test_an_exchange_is_shown_whole_and_the_run_is_not_reproducible():
    told = shown(record(ROW, omitted=2), GRANTED, LIMITS, is_open=True)

    assert told == {"reproducible": False, "count": 3, "omitted": 2, "exchanges": [ROW.row()], "limits": LIMITS}


def test_a_row_leaves_out_what_says_nothing():
    assert {"refused", "cut", "targetSha256", "address"}.isdisjoint(Exchange(at=1).row())


def test_abuse_a_refused_request_does_not_carry_the_jobs_words_into_the_receipt():
    row = Exchange(at=1, method="GET", host="secret.evil.example", port=443, target_sha256="ab", refused="no")

    (told,) = shown(record(row), GRANTED, LIMITS, is_open=True)["exchanges"]

    assert (told["host"], told["port"], told["method"], told["refused"]) == ("", 0, "", "no")
    assert "targetSha256" not in told


def test_a_refused_request_for_a_granted_host_is_told():
    row = Exchange(at=1, method="GET", host="a.example.org", port=443, refused="no address")

    assert shown(record(row), GRANTED, LIMITS, is_open=True)["exchanges"] == [row.row()]


def test_of_an_output_that_is_not_released_only_the_number_is_told():
    assert shown(record(ROW), GRANTED, LIMITS, is_open=False) == {"reproducible": False, "count": 1}
    assert closed(shown(record(ROW), GRANTED, LIMITS, is_open=True)) == {"reproducible": False, "count": 1}


def test_a_journal_counts_what_it_has_no_row_for():
    journal = Journal(1, lambda: 1.5)
    journal.begin().status = 200

    with pytest.raises(BadRequest) as caught:
        journal.begin()

    assert caught.value.status == 429
    assert journal.record() == {"exchanges": [Exchange(at=1500, status=200).row()], "omitted": 1}
