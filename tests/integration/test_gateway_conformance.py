"""The trustless assertions of ipfs/gateway-conformance, of the bridge's gateway and of a node's, by the same tables.

Rows have the names that the suite gives its assertions. Its IPNS assertions are left out: no gateway of ours serves
IPNS, which the specification allows, and which a test here says.
"""

import re
from dataclasses import dataclass

import httpx
import pytest

from executor.content.cidtext import text_of
from executor.content.unixfs import resolve, walk
from executor.errors import MalformedBlock
from executor.protocol.cid import DAG_CBOR, DAG_PB, Cid
from tests.gateway_kit import (
    CAR_TYPE,
    PLACES,
    RAW_TYPE,
    cids_of,
    directory,
    file_of,
    leaf,
    old_file,
    put_block,
    sharded,
)

ASCII = b"hello application/vnd.ipld.car\n"
HELLO = b"hello world\n"
CHUNKS = [bytes([number]) * 256 for number in b"abcd"] + [b"!\n"]
"""Of multiblock.txt, 1026 bytes."""
THREE = [bytes([number]) * 1024 for number in b"xyz"]


@dataclass
class Content:
    """What the suite's fixtures are, made here. missing: a file in three chunks of which the second is not there."""

    two: Cid
    mixed: Cid
    sharded: Cid
    twice: Cid
    missing: Cid
    missing_chunks: list[Cid]
    multi: Cid
    chunks: list[Cid]
    ascii: Cid
    hello: Cid


def publish(store, roots):
    """Bring the content into a store, and make it public."""
    ascii_cid, hello = leaf(store, ASCII), leaf(store, HELLO)
    multi, _ = file_of(store, *CHUNKS)
    two = directory(store, subdir=directory(store, ascii_txt=ascii_cid, hello_txt=hello))
    mixed = directory(store, subdir=directory(store, ascii_txt=ascii_cid, hello_txt=hello, multiblock_txt=multi))
    many = {f"{n}.txt": file_of(store, *(b"%d-%d" % (n, part) for part in range(3)))[0] for n in range(300)}
    hamt = sharded(store, many)
    twice = directory(store, ascii_copy_txt=ascii_cid, ascii_txt=ascii_cid, hello_txt=hello, multiblock_txt=multi)
    missing, missing_chunks = old_file(store, *THREE)
    for root in (two, mixed, hamt, twice, missing):
        roots.publish(root, "test")
    store.delete(missing_chunks[1])
    chunks = [leaf(store, chunk) for chunk in CHUNKS]
    return Content(two, mixed, hamt, twice, missing, missing_chunks, multi, chunks, ascii_cid, hello)


@pytest.fixture(scope="module", params=PLACES)
def place(request, tmp_path_factory):
    with PLACES[request.param](tmp_path_factory.mktemp("gateway") / request.param) as made, made.http:
        yield made


@pytest.fixture(scope="module")
def content(place):
    return publish(place.store, place.roots)


def way(place, root, path):
    """What a path needs: its blocks, those of sharded directories too, and its end."""
    seen = []

    class Watched:
        def get(self, cid):
            seen.append(cid)
            return place.store.get(cid)

        has = place.store.has

    end = resolve(Watched(), root, path)
    return [*seen, end]


def below(place, root):
    return list(walk(place.store, root))


#: assertion -> (path of the content, query, the blocks that come, in that order)
CARS = {
    "GET default CAR response with pathing through UnixFS Directory": (
        "{two}/subdir/ascii.txt", "", lambda p, c: way(p, c.two, "subdir/ascii.txt"),
    ),
    "GET default CAR response of UnixFS file on a path with HAMT-sharded directory": (
        "{sharded}/285.txt", "",
        lambda p, c: [*way(p, c.sharded, "285.txt"), *below(p, resolve(p.store, c.sharded, "285.txt"))[1:]],
    ),
    "GET CAR with dag-scope=block of UnixFS directory on a path": (
        "{two}/subdir", "dag-scope=block", lambda p, c: way(p, c.two, "subdir"),
    ),
    "GET CAR with dag-scope=block of UnixFS file on a path": (
        "{two}/subdir/ascii.txt", "dag-scope=block", lambda p, c: way(p, c.two, "subdir/ascii.txt"),
    ),
    "GET CAR with dag-scope=block of UnixFS file on a path with sharded directory": (
        "{sharded}/1.txt", "dag-scope=block", lambda p, c: way(p, c.sharded, "1.txt"),
    ),
    "GET CAR with dag-scope=entity of a UnixFS directory": (
        "{two}", "dag-scope=entity", lambda p, c: [c.two],
    ),
    "GET CAR with dag-scope=entity of a UnixFS sharded directory": (
        "{sharded}", "dag-scope=entity", lambda p, c: shards(p, c.sharded),
    ),
    "GET CAR with dag-scope=entity of a UnixFS file": (
        "{mixed}/subdir/ascii.txt", "dag-scope=entity", lambda p, c: way(p, c.mixed, "subdir/ascii.txt"),
    ),
    "GET CAR with dag-scope=entity of a chunked UnixFS file": (
        "{mixed}/subdir/multiblock.txt", "dag-scope=entity",
        lambda p, c: [*way(p, c.mixed, "subdir/multiblock.txt"), *c.chunks],
    ),
    "GET CAR with dag-scope=all of UnixFS directory with multiple files": (
        "{mixed}/subdir", "dag-scope=all",
        lambda p, c: [c.mixed, *below(p, resolve(p.store, c.mixed, "subdir"))],
    ),
    "GET CAR with dag-scope=all of a chunked UnixFS file": (
        "{mixed}/subdir/multiblock.txt", "dag-scope=all",
        lambda p, c: [*way(p, c.mixed, "subdir/multiblock.txt"), *c.chunks],
    ),
    "GET CAR with entity-bytes succeeds even if the gateway is missing a block after the requested range": (
        "{missing}", "dag-scope=entity&entity-bytes=0:1000", lambda p, c: [c.missing, c.missing_chunks[0]],
    ),
    "GET CAR with entity-bytes succeeds even if the gateway is missing a block before the requested range": (
        "{missing}", "dag-scope=entity&entity-bytes=2200:*", lambda p, c: [c.missing, c.missing_chunks[2]],
    ),
    "GET CAR with entity-bytes of a full UnixFS file": (
        "{mixed}/subdir/multiblock.txt", "dag-scope=entity&entity-bytes=0:*",
        lambda p, c: [*way(p, c.mixed, "subdir/multiblock.txt"), *c.chunks],
    ),
    "GET CAR with entity-bytes of a UnixFS directory": (
        "{sharded}", "dag-scope=entity&entity-bytes=0:*", lambda p, c: shards(p, c.sharded),
    ),
    "GET CAR with entity-bytes equivalent to a HTTP Range Request from the middle of a file to the end": (
        "{multi}", "dag-scope=entity&entity-bytes=512:*", lambda p, c: [c.multi, *c.chunks[2:]],
    ),
    "GET CAR with entity-bytes equivalent to a HTTP Range Request for the middle of a file": (
        "{multi}", "dag-scope=entity&entity-bytes=512:1023", lambda p, c: [c.multi, *c.chunks[2:4]],
    ),
    "GET CAR with entity-bytes equivalent to a HTTP Range Request for the middle of a file (negative ending)": (
        "{multi}", "dag-scope=entity&entity-bytes=512:-256", lambda p, c: [c.multi, *c.chunks[2:4]],
    ),
    "GET CAR with entity-bytes equivalent to HTTP Suffix Range Request for part of a file": (
        "{multi}", "dag-scope=entity&entity-bytes=-5:*", lambda p, c: [c.multi, *c.chunks[3:]],
    ),
    "GET CAR with entity-bytes requesting a negative range bigger than the length of a file": (
        "{multi}", "dag-scope=entity&entity-bytes=-9999:*", lambda p, c: [c.multi, *c.chunks],
    ),
    "GET CAR with entity-bytes requesting a range from the end of a file that is bigger than a file itself": (
        "{multi}", "dag-scope=entity&entity-bytes=-9999:-3", lambda p, c: [c.multi, *c.chunks[:4]],
    ),
    "GET CAR with entity-bytes requesting only the blocks for the first byte of a file": (
        "{multi}", "dag-scope=entity&entity-bytes=0:0", lambda p, c: [c.multi, c.chunks[0]],
    ),
}  # fmt: skip


def shards(place, root):
    """The blocks of the directory itself: raw leaves and files' own blocks are not among them."""
    files = {resolve(place.store, root, f"{n}.txt") for n in range(300)}
    return [cid for cid in below(place, root) if cid.codec == DAG_PB and cid not in files]


@pytest.mark.parametrize("asked_by", ["format=car", "Accept Header"])
@pytest.mark.parametrize("name", CARS)
def test_a_car_has_exactly_the_blocks_of_the_assertion_in_their_order(place, content, name, asked_by):
    path, query, blocks = CARS[name]
    where = f"/ipfs/{path.format(**vars(content))}?{query}"

    response = place.get(f"{where}&format=car") if asked_by == "format=car" else place.get(where, Accept=CAR_TYPE)

    assert response.status_code == 200
    assert cids_of(response.content) == blocks(place, content)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["accept-ranges"] == "none"
    assert CAR_TYPE in response.headers["content-type"]
    assert re.fullmatch(r'attachment; filename=".*\.car"', response.headers["content-disposition"])
    assert response.headers["etag"]


def test_get_default_car_response_for_non_existing_file(place, content):
    assert place.get(f"/ipfs/{content.two}/subdir/i-do-not-exist?format=car").status_code == 404


#: assertion -> (query, Accept, words of the Content-Type, whether repeats come)
ORDERS = {
    "GET CAR with order=dfs and dups=y of UnixFS Directory With Duplicate Files": (
        "", f"{CAR_TYPE}; version=1; order=dfs; dups=y", ["order=dfs", "dups=y"], True,
    ),
    "GET CAR with order=dfs and dups=n of UnixFS Directory With Duplicate Files": (
        "", f"{CAR_TYPE}; version=1; order=dfs; dups=n", ["order=dfs", "dups=n"], False,
    ),
    "GET CAR smoke-test with order=unk of UnixFS Directory": (
        "", f"{CAR_TYPE}; version=1; order=unk", ["order="], False,
    ),
    "GET CAR with ?format=car respects Accept header order and dups params": (
        "format=car", f"{CAR_TYPE}; version=1; order=dfs; dups=y", ["order=dfs", "dups=y"], True,
    ),
    "GET CAR with ?car-order=dfs takes precedence over order=unk in Accept": (
        "format=car&car-order=dfs", f"{CAR_TYPE}; order=unk", ["order=dfs"], False,
    ),
    "GET CAR with ?car-dups=y takes precedence over dups=n in Accept": (
        "format=car&car-dups=y", f"{CAR_TYPE}; dups=n", ["dups=y"], True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("query", "accept", "words", "dups"), ORDERS.values(), ids=ORDERS)
def test_a_car_comes_in_the_order_and_with_the_repeats_that_are_asked_for(place, content, query, accept, words, dups):
    response = place.get(f"/ipfs/{content.twice}?{query}", Accept=accept)
    end = [content.hello, content.multi, *content.chunks]
    repeats = [content.ascii] if dups else []

    assert all(word in response.headers["content-type"] for word in words)
    assert response.headers["content-type"].startswith(f"{CAR_TYPE}; version=1")
    assert cids_of(response.content) == [content.twice, content.ascii, *repeats, *end]


def test_get_car_with_order_dfs_and_dups_y_of_identity_cid(place):
    response = place.get("/ipfs/bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa", Accept=f"{CAR_TYPE}; dups=y")

    assert "dups=y" in response.headers["content-type"]
    assert cids_of_nothing(response.content)


def cids_of_nothing(car):
    """Whether a CAR is a header and no block: its root is an identity CID, which no parser of ours takes."""
    return car[0] == len(car) - 1


def test_the_probe_is_answered_in_both_formats_with_its_own_root(place):
    raw, car = (place.get(f"/ipfs/bafkqaaa?format={form}") for form in ("raw", "car"))

    assert (raw.status_code, raw.content) == (200, b"")
    assert cids_of_nothing(car.content)
    assert bytes([1, 0x55, 0, 0]) in car.content
    for form in ("raw", "car"):
        assert place.get(f"/ipfs/bafkqaaa?format={form}", "HEAD").status_code == 200


def test_get_with_format_car_query_parameter_takes_precedence_over_accept_header(place, content):
    response = place.get(f"/ipfs/{content.two}?format=car", Accept=RAW_TYPE)

    assert CAR_TYPE in response.headers["content-type"]
    assert response.headers["content-location"].startswith(f"/ipfs/{content.two}?format=car")


def test_get_with_format_raw_query_parameter_takes_precedence_over_accept_header(place, content):
    response = place.get(f"/ipfs/{content.two}?format=raw", Accept=CAR_TYPE)

    assert response.headers["content-type"] == RAW_TYPE
    assert response.headers["content-location"] == f"/ipfs/{content.two}?format=raw"


def test_get_with_format_raw_param_returns_a_raw_block(place, content):
    assert place.get(f"/ipfs/{content.two}?format=raw").content == place.store.get(content.two)


def test_get_with_raw_header_returns_a_raw_block(place, content):
    assert place.get(f"/ipfs/{content.two}", Accept=RAW_TYPE).content == place.store.get(content.two)


def test_get_with_raw_header_returns_expected_response_headers(place, content):
    response = place.get(f"/ipfs/{content.ascii}", Accept=RAW_TYPE)

    assert response.content == ASCII
    assert response.headers["content-type"] == RAW_TYPE
    assert response.headers["content-length"] == str(len(ASCII))
    assert "attachment;" in response.headers["content-disposition"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_get_with_raw_header_and_filename_param_returns_expected_content_disposition_header(place, content):
    response = place.get(f"/ipfs/{content.ascii}?filename=foobar.bin", Accept=RAW_TYPE)

    assert response.headers["content-disposition"] == 'attachment; filename="foobar.bin"'


def test_get_with_raw_header_returns_expected_caching_headers(place, content):
    response = place.get(f"/ipfs/{content.ascii}", Accept=RAW_TYPE)

    assert response.headers["etag"]
    assert response.headers["x-ipfs-path"] == f"/ipfs/{content.ascii}"
    assert str(content.ascii) in response.headers["x-ipfs-roots"]
    assert response.headers["cache-control"] == "public, max-age=29030400, immutable"


#: Range -> status, body, Content-Range
RAW_RANGES = {
    "single range": ("bytes=7-9", 206, ASCII[7:10], f"bytes 7-9/{len(ASCII)}"),
    "multi range": ("bytes=7-9,1-3", 200, ASCII, None),
    "suffix": ("bytes=-4", 206, ASCII[-4:], f"bytes {len(ASCII) - 4}-{len(ASCII) - 1}/{len(ASCII)}"),
    "behind the end": ("bytes=999-", 416, None, f"bytes */{len(ASCII)}"),
}


@pytest.mark.parametrize(("asked", "status", "body", "content_range"), RAW_RANGES.values(), ids=RAW_RANGES)
def test_get_with_raw_header_with_range_request_includes_correct_bytes(
    place, content, asked, status, body, content_range
):
    response = place.get(f"/ipfs/{content.ascii}", Accept=RAW_TYPE, Range=asked)

    assert response.status_code == status
    assert body is None or response.content == body
    assert response.headers.get("content-range") == content_range


def test_a_range_of_another_version_is_passed_over(place, content):
    mine = place.get(f"/ipfs/{content.ascii}?format=raw").headers["etag"]
    found = [
        place.get(f"/ipfs/{content.ascii}?format=raw", Range="bytes=0-0", If_Range=tag).status_code
        for tag in (mine, '"other"')
    ]

    assert found == [206, 200]


# -- what the specification says beside the suite --------------------------------------------------------------------


def test_a_head_says_what_a_get_says(place, content):
    for where in (f"{content.two}?format=raw", f"{content.mixed}/subdir?format=car&dag-scope=entity"):
        got, head = place.get(f"/ipfs/{where}"), place.get(f"/ipfs/{where}", "HEAD")
        moving = {"date", "transfer-encoding"}
        assert (head.status_code, head.content) == (200, b"")
        assert {k: v for k, v in head.headers.items() if k not in moving} == {
            k: v for k, v in got.headers.items() if k not in moving
        }


@pytest.mark.parametrize("form", ["raw", "car"])
def test_what_the_client_has_is_not_sent_again(place, content, form):
    where = f"/ipfs/{content.two}?format={form}"
    tag = place.get(where).headers["etag"]

    again = place.get(where, If_None_Match=f'"x", W/{tag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert place.get(where, If_None_Match='"x"').status_code == 200


def test_a_cid_of_version_0_is_answered_in_its_own_words(place, content):
    text = text_of(content.missing, is_old=True)

    response = place.get(f"/ipfs/{text}?format=car&entity-bytes=0:1")

    assert cids_of(response.content) == [content.missing, content.missing_chunks[0]]
    assert response.content.count(bytes([0x12, 0x20]) + content.missing.digest) == 2  # the root, and its block
    assert bytes([1, DAG_PB, 0x12, 0x20]) + content.missing_chunks[0].digest not in response.content
    assert place.get(f"/ipfs/{text}?format=raw").content == place.store.get(content.missing)


def test_a_car_in_which_a_block_is_missing_is_cut(place, content):
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        place.get(f"/ipfs/{content.missing}?format=car")


#: what is asked for -> status
STATUSES = {
    "neither format nor Accept": ("{two}", {}, 400),
    "a page": ("{two}", {"Accept": "text/html"}, 406),
    "a TAR": ("{two}?format=tar", {}, 406),
    "a CAR of version 2": ("{two}?format=car&car-version=2", {}, 406),
    "a block below a path": ("{two}/subdir?format=raw", {}, 406),
    "a CID that is none": ("bafy?format=raw", {}, 400),
    "a CID of a codec that nobody here has": ("baguqeeraaaaa?format=raw", {}, 400),
    "a path that goes up": ("{two}/%2e%2e/x?format=car", {}, 400),
    "a scope that is none": ("{two}?format=car&dag-scope=x", {}, 400),
    "bytes behind the file": ("{multi}?format=car&entity-bytes=1026:*", {}, 400),
    "bytes of a directory, wherever": ("{two}?format=car&entity-bytes=1026:*", {}, 200),
    "a service worker": ("{two}?format=raw", {"Service_Worker": "script"}, 400),
    "what is here, only if it is here": ("{two}?format=raw", {"Cache_Control": "only-if-cached"}, 200),
    "below an identity CID": ("bafkqaaa/x?format=car", {}, 404),
    "below a file": ("{multi}/x?format=car", {}, 404),
    "a slash at the end": ("{two}/subdir/?format=car", {}, 200),
}  # fmt: skip


@pytest.mark.parametrize(("path", "headers", "status"), STATUSES.values(), ids=STATUSES)
def test_a_request_has_the_status_that_the_specification_gives_it(place, content, path, headers, status):
    response = place.get(f"/ipfs/{path.format(**vars(content))}", **headers)

    assert response.status_code == status
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ipns_is_not_served(place, method):
    assert place.get("/ipns/k51qzi5uqu5dlkw8pxuw9qmqayfdeh4kfebhmreauqdc6a7c3y7d5i9fi8mk9w", method).status_code == 501


def test_nothing_is_written_through_a_gateway(place, content):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert place.get(f"/ipfs/{content.two}", method).status_code == 405


def test_a_dag_cbor_document_is_no_content_of_ours(place, content):
    """The suite's two assertions on DAG-CBOR do not apply: no store of ours takes such a DAG in, so none is public."""
    root = put_block(place.store, b"\xa0", DAG_CBOR)
    with pytest.raises(MalformedBlock):
        place.roots.publish(root, "test")

    for where in (f"{root}?format=raw", f"{root}/files/single?format=car", f"{root}?format=car&dag-scope=entity"):
        assert place.get(f"/ipfs/{where}").status_code == 404
