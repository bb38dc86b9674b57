"""A DAG from several sources over real HTTP: faulty ones alone, and beside one that is good."""

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from executor.content.blocks import MemoryBlocks
from executor.content.blockstore import BlockStore
from executor.content.car import write_car
from executor.content.kubo import Kubo
from executor.content.patience import Patience
from executor.content.retrieval import Pace, Retriever
from executor.content.sources import gateway_source, kubo_source
from executor.content.walk import missing
from executor.content.web import Http
from executor.errors import ContentTooLarge, DiskFull, InvalidInput, MalformedBlock, PeerRefused, PeerUnavailable
from executor.protocol.cid import DAG_PB, RAW, Cid
from tests.chain_nodes import wait_for
from tests.faulty_sources import ALL_FAULTS, Content, Gateway, drip_bytes, faulty, part_of, patient_source
from tests.raw_server import RawServer, head, send, silent

MIB = 2**20
PACE = Pace(hedge=0.1, progress=0.6)
CONTENT = Content.of(os.urandom(4 * MIB + 5))
BUDGET = 20.0


@pytest.fixture
def store():
    return MemoryBlocks()


@pytest.fixture
def retriever_of(store):
    with ExitStack() as stack:
        yield lambda *urls, **options: stack.enter_context(
            Retriever([patient_source(url) for url in urls], store, **{"pace": PACE, **options})
        )


def patience(seconds=BUDGET):
    return Patience(time.time() + seconds, pause=lambda wanted: time.sleep(min(wanted, 0.01)))


def fetch(retriever, content=CONTENT, seconds=BUDGET):
    return retriever.fetch(content.root, max_bytes=100 * MIB, patience=patience(seconds))


def names(retrieved):
    return [share.source for share in retrieved.shares]


def watched(ended):
    """A script that takes a call, says nothing, and notes when the caller hangs up."""

    def script(connection, stopping):
        connection.settimeout(30)
        with suppress(ConnectionError):
            assert connection.recv(1) == b""
        ended.append(time.monotonic())

    return script


def test_a_dag_comes_from_the_only_source(store, retriever_of):
    with Gateway(CONTENT) as good:
        retrieved = fetch(retriever_of(good.url))

    assert missing(store, CONTENT.root) == []
    assert names(retrieved) == [good.url]
    assert retrieved.bytes == sum(len(CONTENT.blocks.get(cid)) for cid in CONTENT.blocks)


def test_what_is_here_is_asked_of_nobody(store, retriever_of):
    store.put_many((cid, CONTENT.blocks.get(cid)) for cid in CONTENT.blocks)
    with Gateway(CONTENT) as good:
        retrieved = fetch(retriever_of(good.url))

        assert good.calls == []
    assert retrieved.shares == ()


def test_only_what_is_missing_is_asked_for(store, retriever_of):
    here = part_of(CONTENT, 0.5)
    store.put_many((cid, CONTENT.blocks.get(cid)) for cid in here)
    with Gateway(CONTENT) as good:
        retrieved = fetch(retriever_of(good.url))

    assert retrieved.shares[0].blocks == len(CONTENT.blocks) - len(here)


@pytest.mark.parametrize("fault", ALL_FAULTS)
def test_a_faulty_source_alone_ends_in_an_error_that_names_it_and_nothing_wrong_is_stored(store, retriever_of, fault):
    started = time.monotonic()
    with faulty(fault, CONTENT) as url:
        retriever = retriever_of(url)
        with pytest.raises((PeerUnavailable, PeerRefused)) as caught:
            fetch(retriever)

    assert time.monotonic() - started < BUDGET
    assert url in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert all(store.get(cid) == CONTENT.blocks.get(cid) for cid in store)


@pytest.mark.parametrize("fault", ALL_FAULTS)
def test_a_faulty_source_that_is_preferred_delays_the_good_one_and_no_more(store, retriever_of, fault):
    started = time.monotonic()
    with faulty(fault, CONTENT) as url, Gateway(CONTENT) as good:
        retrieved = fetch(retriever_of(url, good.url))

    assert time.monotonic() - started < 10
    assert {cid: store.get(cid) for cid in store} == {cid: CONTENT.blocks.get(cid) for cid in CONTENT.blocks}
    assert good.url in names(retrieved)


def test_of_2500_providers_that_are_gone_at_most_20_are_tried(retriever_of):
    with faulty("nobody listens", CONTENT) as url:
        retriever = retriever_of(*(f"{url}/{number}" for number in range(2500)))
        with pytest.raises(PeerUnavailable) as caught:
            fetch(retriever)

    assert len(retriever.scores) == 20
    assert "2480 more were not asked" in str(caught.value)
    assert len(str(caught.value)) < 20 * 300


def test_a_good_source_before_2500_that_are_gone_is_all_it_takes(retriever_of):
    with faulty("nobody listens", CONTENT) as url, Gateway(CONTENT) as good:
        retrieved = fetch(retriever_of(good.url, *(f"{url}/{number}" for number in range(2500)), pace=Pace()))

    assert retrieved.tried == 1


def test_60_mb_of_one_good_source_among_50_bad_ones_come_within_3_times_what_it_takes_alone():
    """Patience is a tenth of the usual one, and the good source's line ten times as fast as in `./dev bench search`."""
    large, next_one = Content.of(os.urandom(60 * 10**6)), Content.of(os.urandom(MIB + 1))
    with ExitStack() as stack:
        bad = [stack.enter_context(faulty(ALL_FAULTS[n % len(ALL_FAULTS)], large)) for n in range(50)]
        good = stack.enter_context(Gateway(large, bytes_per_second=20 * MIB))
        seconds = []
        for urls in ([good.url], [*bad, good.url]):
            sources = [patient_source(url) for url in urls]
            pace = Pace(hedge=0.2, progress=1.0)
            retriever = stack.enter_context(Retriever(sources, MemoryBlocks(), pace=pace, max_tried=len(sources)))
            started = time.monotonic()
            fetch(retriever, large, seconds=60)
            seconds.append(time.monotonic() - started)
            assert all(retriever.store.get(cid) == large.blocks.get(cid) for cid in large.blocks)

        assert seconds[1] < 3 * seconds[0]
        good._content = next_one
        assert names(fetch(retriever, next_one)) == [good.url]  # by now it is known who is good


def test_two_sources_that_have_a_part_each_complete_a_dag_together(store, retriever_of):
    first = part_of(CONTENT, 0.34)
    car = CONTENT.car
    with (
        RawServer(send(head(), car[: len(car) // 2]), send(head("404 Not Found"))) as cut,
        Gateway(CONTENT, only=set(CONTENT.blocks) - first) as rest,
    ):
        retrieved = fetch(retriever_of(cut.url, rest.url))

    assert missing(store, CONTENT.root) == []
    assert sorted(names(retrieved)) == sorted([cut.url, rest.url])


def test_a_source_that_lacks_the_first_missing_block_is_asked_for_the_others(store, retriever_of):
    lacked = next(iter(CONTENT.blocks))
    root_only = [(CONTENT.root, CONTENT.blocks.get(CONTENT.root))]
    store.put_many(root_only)
    with (
        Gateway(CONTENT, only=set(CONTENT.blocks) - {lacked}) as most,
        Gateway(CONTENT, only={lacked}) as one,
    ):
        retrieved = fetch(retriever_of(most.url, one.url))

    assert missing(store, CONTENT.root) == []
    assert len(retrieved.shares) == 2


def test_a_source_that_lied_is_never_asked_again(store, retriever_of):
    with faulty("wrong block", CONTENT) as url, Gateway(CONTENT) as good:
        retriever = retriever_of(url, good.url)
        fetch(retriever)
        other = Content.of(b"other content")
        good._content = other

        assert fetch(retriever, other).tried == 1
        assert "hash" in retriever.score(retriever.sources[0]).lie


def test_the_circuit_of_a_source_that_failed_too_often_is_open(retriever_of):
    with RawServer(send(head("503 Service Unavailable"))) as busy:
        retriever = retriever_of(busy.url)
        with pytest.raises(PeerUnavailable):
            fetch(retriever)
        calls = len(busy.calls)
        with pytest.raises(PeerUnavailable, match="5 times in a row"):
            fetch(retriever)

        assert calls == len(busy.calls) == 5


def test_a_source_whose_name_is_still_looked_up_for_an_earlier_transfer_is_not_asked_by_two_threads(store):
    """Such a look-up cannot be ended: its thread comes back later, and is done with the client then."""
    with Gateway(CONTENT) as gateway, Retriever([gateway_source(gateway.url)], store) as retriever:
        left_behind = retriever.clients.using(retriever.sources[0])
        left_behind.__enter__()
        with pytest.raises(PeerUnavailable, match="an earlier transfer still waits for it"):
            fetch(retriever, seconds=2)
        assert gateway.calls == []
        left_behind.__exit__(None, None, None)

        assert fetch(retriever).bytes > 0


def test_when_all_sources_lack_it_that_is_the_error(retriever_of):
    with (
        faulty("has it not", CONTENT) as one,
        faulty("has it not", CONTENT) as two,
        pytest.raises(PeerRefused) as caught,
    ):
        fetch(retriever_of(one, two))

    assert caught.value.status == 404


def test_without_a_source_the_error_says_so(retriever_of):
    with pytest.raises(PeerUnavailable, match="no source to ask"):
        fetch(retriever_of())


def test_a_second_source_is_asked_when_the_first_is_silent_and_the_loser_is_hung_up_on(retriever_of):
    ended = []
    with RawServer(watched(ended)) as slow, Gateway(CONTENT) as good:
        retriever = retriever_of(slow.url, good.url, pace=Pace(hedge=0.1, progress=30))
        retrieved = fetch(retriever)
        returned = time.monotonic()
        wait_for(lambda: ended, 10, "the loser to be hung up on")

    assert names(retrieved) == [good.url]
    assert ended[0] - returned < 5
    assert retriever.score(retriever.sources[0]).failures == 0


def test_a_slow_source_that_answers_first_wins(retriever_of):
    with Gateway(CONTENT, delay=0.4) as slow, RawServer(silent) as never:
        retrieved = fetch(retriever_of(slow.url, never.url))

    assert names(retrieved) == [slow.url]


def test_a_loser_that_is_still_dialling_or_never_answers_tls_is_left_at_once(retriever_of):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(2):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(full.getsockname())
        tls = stack.enter_context(faulty("never answers TLS", CONTENT))
        good = stack.enter_context(Gateway(CONTENT))
        dialling = f"http://127.0.0.1:{full.getsockname()[1]}"
        sources = [patient_source(url) for url in (dialling, tls, good.url)]
        with Retriever(sources, MemoryBlocks(), pace=Pace(0.05, 30)) as retriever:
            started = time.monotonic()
            retrieved = fetch(retriever)

            assert time.monotonic() - started < 10
        assert retrieved.tried == 3


def test_a_slow_drip_of_blocks_does_not_hold_up_the_end(store, retriever_of):
    small = Content.of(b"x" * 200)
    with RawServer(drip_bytes(small.car)) as dripping, Gateway(small) as good:
        started = time.monotonic()
        fetch(retriever_of(dripping.url, good.url), small)

    assert time.monotonic() - started < 10


def test_the_overall_deadline_holds_with_a_source_that_is_never_silent_for_long(retriever_of):
    big = Content.of(os.urandom(40 * MIB))
    with RawServer(_trickle(big.car)) as slow:
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="time for this transfer"):
            fetch(retriever_of(slow.url), big, seconds=1.0)

    assert time.monotonic() - started < 10


def test_a_source_that_is_at_work_when_the_time_is_over_is_not_said_to_be_silent(retriever_of):
    big = Content.of(os.urandom(4 * MIB))

    def half(connection, stopping):
        connection.sendall(head() + big.car[: 2 * MIB + MIB // 2])
        stopping.wait(60)

    with RawServer(half) as slow, pytest.raises(PeerUnavailable, match=f"{slow.url}: brought 3 blocks until then"):
        fetch(retriever_of(slow.url, pace=Pace(hedge=10, progress=30)), big, seconds=1.0)


def _trickle(car):
    def script(connection, stopping):
        connection.sendall(head())
        for offset in range(0, len(car), MIB // 2):
            connection.sendall(car[offset : offset + MIB // 2])
            if stopping.wait(0.1):
                return

    return script


def test_whoever_waits_can_end_it_and_no_socket_and_no_thread_stays(retriever_of):
    class Enough(Exception):
        pass

    def pause(_):
        if len(first.calls) == len(second.calls) == 1:
            raise Enough

    ended = []
    with RawServer(watched(ended)) as first, RawServer(watched(ended)) as second:
        retriever = retriever_of(first.url, second.url, pace=Pace(hedge=0.1, progress=30))
        started = time.monotonic()
        with pytest.raises(Enough):
            retriever.fetch(CONTENT.root, max_bytes=MIB, patience=Patience(time.time() + 60, pause=pause))
        wait_for(lambda: len(ended) == 2, 10, "both to be hung up on, though the retriever lives")
        retriever.close()

    assert time.monotonic() - started < 10


def test_closing_it_ends_what_another_thread_waits_for(retriever_of):
    caught = []

    def waits(retriever):
        with pytest.raises(PeerUnavailable) as error:
            fetch(retriever, seconds=60)
        caught.append(str(error.value))

    with RawServer(silent) as never:
        retriever = retriever_of(never.url, pace=Pace(hedge=0.1, progress=60))
        thread = threading.Thread(target=waits, args=(retriever,))
        thread.start()
        wait_for(lambda: never.calls, 10, "the call to arrive")
        retriever.close()
        thread.join(10)

    assert "was closed" in caught[0]


def test_a_loser_is_asked_again_when_the_winner_stalls(store, retriever_of):
    late = Gateway(CONTENT)
    late._scripts.insert(0, silent)
    with late, faulty("stalls after the first block", CONTENT) as url:
        retrieved = fetch(retriever_of(late.url, url, pace=Pace(hedge=0.1, progress=60)))

    assert missing(store, CONTENT.root) == []
    assert sorted(names(retrieved)) == sorted([late.url, url])


def test_a_dag_over_the_limit_is_too_large(retriever_of):
    with Gateway(CONTENT) as good, pytest.raises(ContentTooLarge):
        retriever_of(good.url).fetch(CONTENT.root, max_bytes=2 * MIB, patience=patience())


def test_a_full_disk_is_the_error_whatever_other_sources_there_are():
    class Full(MemoryBlocks):
        def put_many(self, blocks):
            if blocks:
                raise DiskFull("no space left")

    with Gateway(CONTENT) as one, Gateway(CONTENT) as two:
        sources = [patient_source(one.url), patient_source(two.url)]
        with Retriever(sources, Full(), pace=PACE) as retriever, pytest.raises(DiskFull):
            fetch(retriever)

        assert all(not score.lie for score in retriever.scores.values())


def test_content_that_can_never_be_read_is_the_error_and_its_source_is_not_to_blame(store, retriever_of):
    root = Cid.of(DAG_PB, b"this is no dag-pb")
    car = b"".join(write_car([root], [(root, b"this is no dag-pb")]))
    with RawServer(send(head(), car)) as source:
        retriever = retriever_of(source.url)
        with pytest.raises(MalformedBlock):
            retriever.fetch(root, max_bytes=MIB, patience=patience())

    assert not retriever.score(retriever.sources[0]).lie


def test_a_damaged_block_is_fetched_again(tmp_path):
    kept = BlockStore(tmp_path / "store")
    kept.put_many((cid, CONTENT.blocks.get(cid)) for cid in CONTENT.blocks)
    leaf = next(cid for cid in CONTENT.blocks if cid.codec == RAW)
    path = kept._path(leaf)
    path.chmod(0o600)
    path.write_bytes(b"rotten")
    with Gateway(CONTENT) as good, Retriever([patient_source(good.url)], kept, pace=PACE) as retriever:
        retrieved = fetch(retriever)

    assert retrieved.shares[0].blocks == 1
    assert kept.get(leaf) == CONTENT.blocks.get(leaf)


def test_a_kubo_that_is_silent_is_left_for_a_gateway(retriever_of):
    ended = []
    with RawServer(watched(ended)) as kubo, Gateway(CONTENT) as good:
        sources = [kubo_source(kubo.url), patient_source(good.url)]
        with Retriever(sources, MemoryBlocks(), pace=Pace(0.1, 30)) as retriever:
            retrieved = fetch(retriever)
            returned = time.monotonic()
        wait_for(lambda: ended, 10, "the loser to be hung up on")

    assert names(retrieved) == [good.url]
    assert ended[0] - returned < 5


@pytest.mark.kubo
@pytest.mark.parametrize("of", [Http, Kubo], ids=["http", "kubo"])
def test_abuse_a_peer_s_cookies_are_neither_kept_nor_sent_back(of):
    with RawServer(send(head(Set_Cookie="name=value; Path=/"), b"{}")) as server, of(server.url) as client:
        for _ in range(2):
            client.call("GET", "/") if of is Http else client.peer_id()

    assert len(server.heads) >= 2
    assert not any(b"cookie" in top.lower() for top in server.heads)


def test_a_real_kubo_is_a_source(kubo):
    from executor.content.kubo import Kubo

    with Kubo(kubo.api) as client:
        client.publish(CONTENT.blocks, CONTENT.root)
    with (
        faulty("silent", CONTENT) as url,
        Retriever([patient_source(url), kubo_source(kubo.api)], MemoryBlocks(), pace=PACE) as retriever,
    ):
        assert names(fetch(retriever)) == [kubo.api.rstrip("/")]


def test_an_address_that_is_no_kubo_is_refused_before_anything_is_asked():
    with pytest.raises(InvalidInput, match="kubo"):
        kubo_source("https://example.org")


def test_the_command_line_fetches_from_gateways_and_says_what_each_brought(tmp_path, insula):
    data = os.urandom(300_000)
    content = Content.of(data)
    with faulty("wrong block", content) as url, Gateway(content) as good:
        options = ["--gateway", url, "--gateway", good.url, "--output", str(tmp_path / "out"), "--json"]
        code, out, _ = insula("content", "get", str(content.root), *options)

    assert code == 0
    assert (tmp_path / "out").read_bytes() == data
    assert [share["source"] for share in json.loads(out)["sources"]] == [good.url]


def test_the_command_line_fetches_from_a_bridge_alone_in_the_same_way(tmp_path, insula):
    content = Content.of(b"one source")
    with Gateway(content) as bridge:
        options = ["--bridge", bridge.url, "--output", str(tmp_path / "out"), "--json"]
        out = insula("content", "get", str(content.root), *options)[1]
    with faulty("nobody listens", CONTENT) as url:
        code, _, err = insula("content", "get", str(CONTENT.root), "--bridge", url, "--output", str(tmp_path / "no"))

    assert [share["source"] for share in json.loads(out)["sources"]] == [bridge.url]
    assert code == 3
    assert f"no source has it. {url}: " in err


def test_the_command_line_names_each_source_that_failed(tmp_path, insula):
    with faulty("wrong block", CONTENT) as liar, faulty("has it not", CONTENT) as empty:
        options = ["--bridge", empty, "--gateway", liar, "--output", str(tmp_path / "out")]
        code, _, err = insula("content", "get", str(CONTENT.root), *options)

    assert code != 0
    assert empty in err
    assert liar in err
