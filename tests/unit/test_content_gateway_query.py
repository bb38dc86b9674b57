"""What a gateway is asked for, and the headers of its answer."""

import pytest

from executor.content.gateway_answer import byte_range, etag, has_it, headers_of
from executor.content.gateway_query import MAX_NAMES, Asked, Scope, Span, Unanswerable, read_path, understand
from executor.content.selection import Located
from executor.protocol.cid import DAG_PB, RAW, Cid

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
OLD = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
PATH = f"/ipfs/{CID}"
RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"


def ask(query="", accept=None, path=PATH):
    pairs = [tuple(pair.partition("=")[::2]) for pair in query.split("&") if pair]
    return understand(path, pairs, accept)


def status_of(query="", accept=None, path=PATH):
    with pytest.raises(Unanswerable) as caught:
        ask(query, accept, path)
    assert str(caught.value)
    return caught.value.status


#: (query, Accept) -> (form, dups)
FORMS = {
    "format=raw": ("format=raw", None, "raw", False),
    "format=car": ("format=car", None, "car", False),
    "Accept of a block": ("", RAW_TYPE, "raw", False),
    "Accept in capitals, with spaces": ("", f" {RAW_TYPE.upper()} ", "raw", False),
    "Accept of a CAR": ("", CAR_TYPE, "car", False),
    "the first of two": ("", f"text/html, {RAW_TYPE}, {CAR_TYPE}", "raw", False),
    "the one that is wanted more": ("", f"{RAW_TYPE};q=0.5, {CAR_TYPE};q=0.9", "car", False),
    "one that is not wanted at all": ("", f"{RAW_TYPE};q=0, {CAR_TYPE};q=0.1", "car", False),
    "a quality that is none": ("", f"{RAW_TYPE};q=high, {CAR_TYPE}", "car", False),
    "with repeats": ("", f"{CAR_TYPE}; version=1; order=dfs; dups=y", "car", True),
    "parameters in quotes and capitals": ("", f'{CAR_TYPE};Version="1";ORDER="DFS";Dups=Y', "car", True),
    "any order": ("", f"{CAR_TYPE}; order=unk", "car", False),
    "an order that is not known, and one that is": (
        "", f"{CAR_TYPE};order=foo, {CAR_TYPE};order=dfs;dups=y;q=0.5", "car", True,
    ),
    "a CAR of version 2, or a block": ("", f"{CAR_TYPE};version=2, {RAW_TYPE};q=0.1", "raw", False),
    "format over Accept: CAR": ("format=car", RAW_TYPE, "car", False),
    "format over Accept: block": ("format=raw", CAR_TYPE, "raw", False),
    "format=car with Accept's parameters": ("format=car", f"{CAR_TYPE}; dups=y", "car", True),
    "format=car with the second of Accept's": ("format=car", f"{CAR_TYPE};version=2, {CAR_TYPE};dups=y", "car", True),
    "format=car with another Accept": ("format=car", "*/*", "car", False),
    "car-dups over Accept": ("format=car&car-dups=y", f"{CAR_TYPE}; dups=n", "car", True),
    "car-order over Accept": ("format=car&car-order=dfs", f"{CAR_TYPE}; order=foo", "car", False),
    "car-version over Accept": ("car-version=1", f"{CAR_TYPE}; version=2", "car", False),
    "what is not known is passed over": ("format=raw&download=true&x=1", None, "raw", False),
    "the same twice": ("format=raw&format=raw", None, "raw", False),
}  # fmt: skip


@pytest.mark.parametrize(("query", "accept", "form", "dups"), FORMS.values(), ids=FORMS)
def test_the_form_is_what_the_query_says_then_the_accept_header(query, accept, form, dups):
    asked = ask(query, accept)

    assert (asked.form, asked.dups) == (form, dups)


#: what is asked for -> (status, query, Accept, path)
REFUSED = {
    "nothing said": (400, "", None, PATH),
    "an empty Accept": (400, "", " ", PATH),
    "a page": (406, "", "text/html,*/*;q=0.1", PATH),
    "a CAR of version 2": (406, "", f"{CAR_TYPE};version=2", PATH),
    "car-version 2": (406, "format=car&car-version=2", None, PATH),
    "car-order of another kind": (406, "format=car&car-order=bfs", None, PATH),
    "car-dups that is neither": (406, "format=car&car-dups=maybe", None, PATH),
    "format=car, and only others in Accept": (406, "format=car", f"{CAR_TYPE};order=foo", PATH),
    "tar": (406, "format=tar", None, PATH),
    "dag-json": (406, "format=dag-json", RAW_TYPE, PATH),
    "an IPNS record": (400, "format=ipns-record", None, PATH),
    "an unknown format": (400, "format=zip", None, PATH),
    "two formats": (400, "format=raw&format=car", None, PATH),
    "a block below a path": (406, "format=raw", None, f"{PATH}/a"),
    "a scope that is none": (400, "format=car&dag-scope=some", None, PATH),
    "bytes of all": (400, "format=car&dag-scope=all&entity-bytes=0:1", None, PATH),
    "bytes of a block": (400, "format=car&dag-scope=block&entity-bytes=0:1", None, PATH),
    "bytes that are no range": (400, "format=car&entity-bytes=0-1", None, PATH),
    "bytes from the end sign": (400, "format=car&entity-bytes=*:1", None, PATH),
    "bytes without an end": (400, "format=car&entity-bytes=5:", None, PATH),
    "bytes in the wrong order": (400, "format=car&entity-bytes=5:4", None, PATH),
    "bytes in the wrong order from the end": (400, "format=car&entity-bytes=-4:-5", None, PATH),
    "an offset of 64 bits": (400, f"format=car&entity-bytes=0:{2**63}", None, PATH),
    "a name of a file that is too long": (400, f"format=raw&filename={'x' * 256}", None, PATH),
    "no CID": (400, "format=raw", None, "/ipfs/x"),
    "a path that goes up": (400, "format=car", None, f"{PATH}/../x"),
    "a path that goes up, escaped": (400, "format=car", None, f"{PATH}/%2e%2E"),
    "a slash inside a name": (400, "format=car", None, f"{PATH}/a%2fb"),
    "a NUL": (400, "format=car", None, f"{PATH}/a%00"),
    "an empty name": (400, "format=car", None, f"{PATH}/a//b"),
    "a name that is too long": (400, "format=car", None, f"{PATH}/{'n' * 256}"),
    "half an escape": (400, "format=car", None, f"{PATH}/a%2"),
    "not UTF-8": (400, "format=car", None, f"{PATH}/%ff"),
    "a path that is too deep": (400, "format=car", None, f"{PATH}{'/a' * (MAX_NAMES + 1)}"),
}


@pytest.mark.parametrize(("status", "query", "accept", "path"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_answered_is_refused_with_its_status(status, query, accept, path):
    assert status_of(query, accept, path) == status


def test_a_path_is_read_as_it_was_sent():
    named, names = read_path(f"{PATH}/a%20b/%C3%A9/%25/\u00c3\u00a9/")

    assert str(named.cid) == CID
    assert names == ("a b", "\u00e9", "%", "\u00e9")


#: entity-bytes, size of the file -> the bytes that are meant (None: none), or "outside"
SPANS = {
    ("0:*", 10): (0, 9),
    ("0:0", 10): (0, 0),
    ("3:5", 10): (3, 5),
    ("3:99", 10): (3, 9),
    ("9:9", 10): (9, 9),
    ("-3:*", 10): (7, 9),
    ("-3:-2", 10): (7, 8),
    ("-99:*", 10): (0, 9),
    ("-99:-3", 10): (0, 7),
    ("2:-3", 10): (2, 7),
    ("8:-5", 10): None,
    ("0:-99", 10): None,
    ("10:*", 10): "outside",
    ("10:20", 10): "outside",
    ("-99:-50", 10): "outside",
    ("0:*", 0): None,
    ("-5:*", 0): None,
    ("1:*", 0): "outside",
}


@pytest.mark.parametrize(("said", "size"), SPANS)
def test_entity_bytes_are_cut_to_the_file(said, size):
    span = ask(f"format=car&entity-bytes={said}").span
    meant = SPANS[said, size]

    assert str(span) == said
    assert span.is_outside(size) == (meant == "outside")
    assert span.within(size) == (None if meant == "outside" else meant)


def test_entity_bytes_mean_the_scope_entity():
    assert ask("format=car&entity-bytes=0:*").scope is Scope.ENTITY
    assert ask("format=car&dag-scope=entity&entity-bytes=0:*").span == Span(0, None)
    assert ask("format=car&dag-scope=block").scope is Scope.BLOCK
    assert ask("format=car").scope is Scope.ALL


#: requests that have different bytes, or another scope
DIFFERENT = [
    ("format=raw", PATH),
    ("format=car", PATH),
    ("format=car&car-dups=y", PATH),
    ("format=car&dag-scope=block", PATH),
    ("format=car&dag-scope=entity", PATH),
    ("format=car&entity-bytes=0:1", PATH),
    ("format=car&entity-bytes=0:*", PATH),
    ("format=car", f"{PATH}/a"),
    ("format=car", f"{PATH}/a/b"),
    ("format=car", f"/ipfs/{OLD}"),
]


def test_an_etag_stands_for_all_that_the_bytes_depend_on():
    tags = {etag(ask(query, path=path)) for query, path in DIFFERENT}

    assert len(tags) == len(DIFFERENT)
    assert etag(ask("format=car&dag-scope=block")).startswith('"block')
    assert etag(ask("format=car")) == etag(ask("", f"{CAR_TYPE}; order=dfs"))


def test_a_condition_is_met_by_the_same_etag_only():
    asked = ask("format=raw")
    mine = etag(asked)

    assert has_it(asked, mine)
    assert has_it(asked, f'"other", W/{mine}')
    assert has_it(asked, " * ")
    assert not has_it(asked, '"other"')
    assert not has_it(asked, None)


def located(*cids):
    return Located((), cids, cids[-1])


def test_the_headers_of_a_block_say_how_it_may_be_kept_and_cut():
    asked = ask("format=raw")

    assert headers_of(asked, located(asked.named.cid)) == {
        "Content-Type": "application/vnd.ipld.raw",
        "Content-Disposition": f'attachment; filename="{CID}.bin"',
        "Content-Location": f"{PATH}?format=raw",
        "ETag": f'"{CID}.raw"',
        "Cache-Control": "public, max-age=29030400, immutable",
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": PATH,
        "X-Ipfs-Roots": CID,
        "Accept-Ranges": "bytes",
    }


def test_the_headers_of_a_car_say_which_one_it_is():
    asked = ask("format=car&entity-bytes=0:-5&car-dups=y", path=f"/ipfs/{OLD}/a%20b/%22%0d%0a")
    file, folder = Cid.of(RAW, b"file"), Cid.of(DAG_PB, b"folder")
    headers = headers_of(asked, located(asked.named.cid, folder, file))

    assert headers["Content-Type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=y"
    assert headers["Content-Disposition"] == f'attachment; filename="{OLD}.car"'
    assert headers["X-Ipfs-Path"] == f"/ipfs/{OLD}/a%20b/%22%0D%0A"
    assert headers["Content-Location"] == (
        f"/ipfs/{OLD}/a%20b/%22%0D%0A"
        "?format=car&dag-scope=entity&entity-bytes=0:-5&car-version=1&car-order=dfs&car-dups=y"
    )
    assert headers["Accept-Ranges"] == "none"
    root, below, end = headers["X-Ipfs-Roots"].split(",")
    assert (root, end) == (OLD, str(file))
    assert below.startswith("Qm")


def test_the_location_of_a_car_says_its_scope():
    where = headers_of(ask("", f"{CAR_TYPE};dups=n", f"{PATH}/"), None)["Content-Location"]

    assert where == f"{PATH}?format=car&dag-scope=all&car-version=1&car-order=dfs&car-dups=n"


def test_an_identity_cid_has_no_roots():
    assert "X-Ipfs-Roots" not in headers_of(ask("format=raw", path="/ipfs/bafkqaaa"), None)


#: filename -> Content-Disposition
FILENAMES = {
    "foobar.bin": 'attachment; filename="foobar.bin"',
    "test\u0442\u0435\u0441\u0442.bin": (
        "attachment; filename=\"test____.bin\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.bin"
    ),
    'a"\r\nX: y\\': "attachment; filename=\"a___X: y_\"; filename*=UTF-8''a%22%0D%0AX%3A%20y%5C",
}


@pytest.mark.parametrize("filename", FILENAMES)
def test_a_name_of_a_file_breaks_no_header(filename):
    asked = understand(PATH, [("format", "raw"), ("filename", filename)], None)

    assert headers_of(asked, None)["Content-Disposition"] == FILENAMES[filename]


#: Range header, size -> what of it, None for all
RANGES = {
    (None, 10): None,
    ("bytes=7-9", 10): (7, 9),
    ("bytes=7-", 10): (7, 9),
    ("bytes=7-99", 10): (7, 9),
    ("bytes=-3", 10): (7, 9),
    ("bytes=-99", 10): (0, 9),
    ("bytes=0-0", 10): (0, 0),
    ("bytes=7-9, 1-3", 10): None,
    ("bytes=9-7", 10): None,
    ("bytes=-", 10): None,
    ("bytes=a-b", 10): None,
    ("lines=1-2", 10): None,
}


@pytest.mark.parametrize(("header", "size"), RANGES)
def test_one_range_is_read_and_everything_else_is_passed_over(header, size):
    assert byte_range(header, size) == RANGES[header, size]


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_behind_the_end_is_an_error(header, size):
    with pytest.raises(ValueError, match=f"there are {size} bytes"):
        byte_range(header, size)


def test_what_is_asked_can_be_compared():
    assert ask("format=car") == Asked(ask("format=raw").named, (), "car")
