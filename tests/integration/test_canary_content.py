"""The canary's content against a real bridge's API, and against sources that fail: who is at fault is named."""

import errno
import json
import os
from dataclasses import asdict, replace

import pytest

from bridge.canary.contents import Place
from bridge.canary.judgement import Health, Limits
from bridge.canary.records import HEDGED, Fault
from bridge.canary.rounds import MAX_LEFT
from bridge.canary.traces import Left, Traces, held
from executor.content.kubo import Kubo
from executor.content.sources import Source
from tests.bridge_kit import CHAIN_ID, CONTRACT
from tests.canary_kit import PACE, UPLOADER, canary_at, pieces_of, serving
from tests.chain_nodes import free_port
from tests.faulty_sources import Content, Gateway, Halting, faulty
from tests.raw_server import RawServer, head, send

DATA = os.urandom(2 * 2**20 + 5)
CONTENT = Content.of(DATA)
SIZE = (len(DATA),)


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path / "bridge") as served:
        yield served


def line_of(canary):
    canary.step()
    return canary.verdict.line


def test_content_that_comes_back_is_all_well_and_measured(served, tmp_path):
    with canary_at(served.url, tmp_path, sizes=(1024, 2**20)) as canary:
        line = line_of(canary)

    assert line.startswith("canary: all well: 1 KiB, 1 MiB by 1 way, first block within ")
    assert [upload.size for upload in canary.round.uploads] == [1024, 2**20]
    for fetch in canary.round.fetches:
        assert (fetch.source, fetch.fault, fetch.attempts) == (f"bridge {served.url}", Fault.NONE, 1)
        assert fetch.shares == ((served.url, fetch.bytes),)
        assert 0 < fetch.first_seconds <= fetch.seconds
        assert fetch.bytes >= fetch.size


def test_each_round_is_of_content_that_nobody_has_seen(served, tmp_path):
    roots = set()
    with canary_at(served.url, tmp_path) as canary:
        note = canary.traces.note
        canary.traces.note = lambda entry: (roots.add(entry.root), note(entry))
        for _ in range(3):
            canary.step()

    assert len(roots) == 3


def test_nothing_is_left_after_a_round(served, tmp_path):
    with canary_at(served.url, tmp_path, sizes=(1024, 2**20)) as canary:
        canary.step()

        assert (served.account_bytes(), served.roots()) == (0, [])
        assert canary.traces.left() == []
        assert list(canary.traces.folder.rglob("work")) == []
    assert [path.name for path in (tmp_path / "home" / "canary").iterdir()] == ["lock"]


#: fault -> what the line says of the gateway
FAULTY = {
    "stalls inside the header": "{size} from gateway {url}: no whole block in ",
    "drips a byte at a time": "{size} from gateway {url}: no whole block in ",
    "wrong block": "{size} from gateway {url}: it sent wrong bytes (",
    "right block of another CID": "{size} from gateway {url}: it sent wrong bytes (",
    "200, then reset": "{size} from gateway {url} failed after 0 B: ",
    "endless redirects": "{size} from gateway {url} failed after 0 B: ",
    "gzip": "{size} from gateway {url} failed after 0 B: compresses",
    "silent": "{size} from gateway {url}: no whole block in ",
    "busy": "{size} from gateway {url} failed after 0 B: says 503",
    "a page of HTML": "{size} from gateway {url}: it sent wrong bytes (",
    "has it not": "{size} from gateway {url}: it has it not",
    "nobody listens": "{size} from gateway {url} failed after 0 B: does not answer: ConnectError",
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_source_is_named_with_its_fault_and_the_others_are_fine(served, tmp_path, fault):
    with (
        faulty(fault, CONTENT) as url,
        canary_at(
            served.url, tmp_path, gateways=[url], sizes=SIZE, fresh=pieces_of(DATA), seconds=12.0, pace=PACE
        ) as canary,
    ):
        line = line_of(canary)

    assert canary.verdict.health is Health.WRONG
    assert line.startswith("canary: " + FAULTY[fault].format(size="2 MiB", url=url)), line
    assert line.endswith("; other sources fine")
    assert {finding.subject for finding in canary.verdict.findings} == {f"gateway {url}"}
    assert (served.account_bytes(), canary.traces.left()) == (0, [])


HALTING = {
    "stalls": (True, " stalled "),
    "hangs up": (False, " failed after 1 MiB: the CAR stream is cut"),
}


@pytest.mark.parametrize("how", HALTING)
def test_a_source_that_ends_in_the_middle_is_told_by_where(served, tmp_path, how):
    is_silent, words = HALTING[how]
    with (
        Halting(CONTENT, silent=is_silent) as bad,
        canary_at(
            served.url, tmp_path, gateways=[bad.url], sizes=SIZE, fresh=pieces_of(DATA), seconds=12.0, pace=PACE
        ) as canary,
    ):
        line = line_of(canary)

    fetch = next(fetch for fetch in canary.round.fetches if fetch.source == f"gateway {bad.url}")
    assert line.startswith(f"canary: 2 MiB from gateway {bad.url}{words}"), line
    assert 2**20 < fetch.bytes < 1.1 * 2**20
    if is_silent:
        assert f"stalled {fetch.stall_seconds:.1f} s after 1 MiB; 1 MiB came in all; other sources fine" in line
        assert fetch.stall_seconds > 0.5


def test_a_source_that_stands_still_and_goes_on_is_told_by_how_long_and_where(served, tmp_path):
    with (
        Gateway(CONTENT, bytes_per_second=2**20) as slow,
        canary_at(
            served.url,
            tmp_path,
            gateways=[slow.url],
            sizes=SIZE,
            fresh=pieces_of(DATA),
            limits=Limits(stall_seconds=0.2),
        ) as canary,
    ):
        line = line_of(canary)

    slowly = next(fetch for fetch in canary.round.fetches if fetch.source == f"gateway {slow.url}")
    assert slowly.fault is Fault.NONE
    assert 0.5 < slowly.stall_seconds < slowly.seconds
    assert f"2 MiB from gateway {slow.url} stalled {slowly.stall_seconds:.1f} s after " in line


def test_a_good_gateway_beside_the_bridge_is_measured_alone_and_with_the_others(served, tmp_path):
    with (
        Gateway(CONTENT) as good,
        canary_at(served.url, tmp_path, gateways=[good.url], sizes=SIZE, fresh=pieces_of(DATA)) as canary,
    ):
        line = line_of(canary)

    assert " by 3 ways" in line
    assert [fetch.source for fetch in canary.round.fetches] == [f"bridge {served.url}", f"gateway {good.url}", HEDGED]


def test_a_bridge_that_is_not_there_is_unreachable_and_comes_back(tmp_path):
    port = free_port()
    with canary_at(f"http://127.0.0.1:{port}", tmp_path) as canary:
        line = line_of(canary)
        assert canary.verdict.health is Health.UNREACHABLE
        assert line.startswith(f"canary: the bridge http://127.0.0.1:{port} does not answer as one: ")

        with serving(tmp_path / "bridge", port=port):
            canary.step()
    assert canary.verdict.health is Health.WELL
    assert "1 of the last 2 rounds were not" in canary.verdict.line
    assert canary.worst is Health.UNREACHABLE


#: name -> what it says at /v1/status
NO_BRIDGES = {
    "nested too deeply": b"[" * 200_000,
    "a list": b"[]",
    "no JSON": b"<html>",
    "a chain of infinity": f'{{"chainId": Infinity, "contract": "{CONTRACT}"}}'.encode(),
    "a chain of too many digits": f'{{"chainId": {"9" * 400}, "contract": "{CONTRACT}"}}'.encode(),
    "a chain below zero": f'{{"chainId": -5, "contract": "{CONTRACT}"}}'.encode(),
    "a contract that is no address": b'{"chainId": 1, "contract": 5}',
}


@pytest.mark.parametrize("what", NO_BRIDGES)
def test_what_does_not_answer_as_a_bridge_is_unreachable(tmp_path, what):
    with RawServer(send(head(), NO_BRIDGES[what])) as server, canary_at(server.url, tmp_path) as canary:
        assert "does not answer as one" in line_of(canary)
        assert canary.verdict.health is Health.UNREACHABLE
        assert canary.traces.left() == []


#: name -> (the bridge's settings, what the line says)
NOT_ALLOWED = {
    "not allowed to upload": ({"accounts": ()}, "is none of this bridge's content.upload_accounts"),
    "nobody may upload": ({"quota": 0}, "is none of this bridge's content.upload_accounts"),
    "no quota left": ({"quota": 1500}, "content.upload_quota_bytes is too small, or used up"),
}


@pytest.mark.parametrize("what", NOT_ALLOWED)
def test_a_canary_that_may_not_upload_says_so_and_accuses_nobody(tmp_path, what):
    options, words = NOT_ALLOWED[what]
    with serving(tmp_path / "bridge", **options) as served, canary_at(served.url, tmp_path) as canary:
        line = line_of(canary)

    assert canary.verdict.health is Health.BLIND
    assert line.startswith(f"canary: the bridge {served.url} does not take 1 KiB from {UPLOADER.address}: ")
    assert words in line
    assert canary.verdict.burn == 0


def test_a_second_canary_of_the_same_account_is_no_trouble(served, tmp_path):
    with canary_at(served.url, tmp_path, sizes=(1024, 2**20)) as one, canary_at(served.url, tmp_path) as other:
        one.content.pause = lambda _: None
        note = one.traces.note

        def note_and_let_the_other_one_go(entry):
            note(entry)
            other.step()

        one.traces.note = note_and_let_the_other_one_go
        one.step()

    assert (one.verdict.health, other.verdict.health, other.round.number) == (Health.WELL, Health.WELL, 2)
    assert served.account_bytes() == 0


def test_a_leak_in_this_process_is_found_and_named(served, tmp_path):
    held = []

    def leaky(source):
        def opened():
            held.append((tmp_path / "key").open("w"))
            return source.open()

        return Source(source.name, opened)

    try:
        with canary_at(served.url, tmp_path) as canary:
            canary.content.places = [Place(p.name, leaky(p.source)) for p in canary.content.places]
            lines = [line_of(canary) for _ in range(8)]
    finally:
        for file in held:
            file.close()

    assert all("all well" in line for line in lines[:7])
    assert "this canary leaks: from " in lines[-1]
    assert " open files in 6 rounds" in lines[-1]


def test_rounds_without_a_leak_are_not_suspected(served, tmp_path):
    with canary_at(served.url, tmp_path) as canary:
        lines = [line_of(canary) for _ in range(8)]

    assert [line for line in lines if "all well" not in line] == []


def test_kubo_is_given_the_content_and_gives_it_back_and_keeps_nothing(served, tmp_path, kubo):
    with canary_at(served.url, tmp_path, kubos=[kubo.api], sizes=(2**20,)) as canary:
        line = line_of(canary)

    assert "all well: 1 MiB by 3 ways" in line
    assert f"kubo {kubo.api}" in {fetch.source for fetch in canary.round.fetches}
    assert canary.traces.left() == []


def test_a_kubo_that_does_not_answer_is_named_and_the_rest_is_looked_at(served, tmp_path):
    address = f"http://127.0.0.1:{free_port()}"
    with canary_at(served.url, tmp_path, kubos=[address]) as canary:
        line = line_of(canary)

    assert line.startswith(f"canary: kubo {address} takes no content: does not answer: ")
    assert "; content fine" in line
    assert canary.verdict.health is Health.WRONG


# --- what others left


def dead(tmp_path, *entries, name="dead"):
    """The folder of a canary that was killed after it wrote these down."""
    traces = Traces.open(tmp_path / "home" / "canary", name)
    for entry in entries:
        traces.note(entry)
    traces.close()
    return tmp_path / "home" / "canary" / name


def test_pins_that_a_killed_canary_left_at_a_kubo_are_taken_back(served, tmp_path, kubo):
    with Kubo(kubo.api) as daemon:
        daemon.publish(CONTENT.blocks, CONTENT.root)
        folder = dead(tmp_path, Left("kubo", kubo.api, str(CONTENT.root)))

        with canary_at(served.url, tmp_path, kubos=[kubo.api]) as canary:
            canary.step()

        assert not daemon.is_pinned(CONTENT.root)
    assert not folder.exists()


def test_what_another_account_left_or_another_bridge_holds_is_left_to_them(served, tmp_path):
    mine = Left("upload", served.url, str(CONTENT.root), CHAIN_ID, CONTRACT, UPLOADER.address)
    others = [
        replace(mine, account="0x" + "11" * 20),
        replace(mine, where="http://another.example"),
        Left("kubo", "http://127.0.0.1:1", str(CONTENT.root)),
    ]
    folder = dead(tmp_path, *others, mine)

    with canary_at(served.url, tmp_path) as canary:
        line = line_of(canary)

    assert line.startswith("canary: all well")
    [left] = Traces.of_the_dead(folder.parent)
    assert left.left() == others
    left.close()


def test_what_cannot_be_taken_back_for_long_stops_the_canary_from_leaving_more(served, tmp_path):
    with canary_at(served.url, tmp_path) as canary:
        kept = [asdict(Left("kubo", "http://127.0.0.1:1", f"root{number}")) for number in range(MAX_LEFT + 1)]
        file = canary.traces.folder / "left.json"
        file.write_text(json.dumps(kept))

        line = line_of(canary)

        assert (
            line
            == f"canary: nothing new is left at {served.url}: 201 things of earlier rounds cannot be taken back yet"
        )
        assert canary.verdict.health is Health.BLIND
        file.unlink()


def test_a_home_whose_lock_another_process_holds_is_told_and_the_rounds_go_on(served, tmp_path):
    with canary_at(served.url, tmp_path, lock_seconds=0.1) as canary:
        with held(canary.home / "lock", 1.0):  # flock: another descriptor is as good as another process
            line = line_of(canary)
            assert "what dead canaries left was not looked at" in line
            assert canary.verdict.health is Health.BLIND
            assert [fetch.fault for fetch in canary.round.fetches] == [Fault.NONE]

        assert canary.step()
        assert canary.verdict.health is Health.WELL


def test_a_bridge_that_refuses_to_take_something_back_is_named(served, tmp_path):
    with canary_at(served.url, tmp_path) as canary:
        entry = Left(
            "upload", served.url, str(CONTENT.root), CHAIN_ID + 1, CONTRACT, UPLOADER.address
        )  # not signed for it
        canary.traces.note(entry)

        line = line_of(canary)

        assert line.startswith(f"canary: {CONTENT.root} cannot be taken back from {served.url}: ")
        assert canary.traces.left() == [entry]
        canary.traces.forget(entry)


def test_a_full_disk_of_its_own_accuses_nobody(served, tmp_path):
    with canary_at(served.url, tmp_path) as canary:
        canary.content.fresh = full
        line = line_of(canary)

    assert line == "canary: this canary's own store fails: [Errno 28] No space left on device"
    assert canary.verdict.health is Health.BLIND


def full(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
