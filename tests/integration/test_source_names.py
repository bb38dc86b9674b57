"""A password in the URL of a bridge or gateway is told to nobody but its server."""

import json
import os
import time

import pytest
from structlog.testing import capture_logs

from bridge.canary.contents import places_of
from executor.agent.classes import Classes
from executor.agent.outside import outside_of
from executor.agent.reviewclient import open_remote
from executor.content.blocks import MemoryBlocks
from executor.content.kuboaddress import rpc_address
from executor.content.patience import Patience
from executor.content.retrieval import Retriever
from executor.content.sources import gateway_source
from executor.content.web import Http
from executor.errors import InvalidInput, PeerError
from executor.protocol.signing import Key
from tests.canary_kit import key_file, serving
from tests.faulty_sources import Content, Gateway
from tests.raw_server import RawServer, flood, head, send

PASSWORD = "hunter2-hunter2"
CONTENT = Content.of(os.urandom(10_000))


def with_password(url):
    return url.replace("://", f"://somebody:{PASSWORD}@")


#: what a server does -> its script
ANSWERS = {
    "closes": send(),
    "says 500": send(head("500 Internal Server Error"), b"no"),
    "says 404": send(head("404 Not Found"), b"no"),
    "redirects": send(head("302 Found", Location="http://192.0.2.1/")),
    "compresses": send(head(Content_Encoding="gzip"), b"x"),
    "speaks no HTTP": send(b"\x00\x01\x02\r\n\r\n"),
    "answers without end": flood(head(), b"x" * 65536),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_what_a_server_does_is_told_without_the_password(what):
    with RawServer(ANSWERS[what]) as server:
        url = with_password(server.url)
        with Http(url) as http, pytest.raises(PeerError) as called:
            http.call("GET", "/v1/status")
        with Retriever([gateway_source(url)], MemoryBlocks()) as retriever, pytest.raises(PeerError) as fetched:
            retriever.fetch(CONTENT.root, max_bytes=10**6, patience=Patience(0.0))

    assert PASSWORD not in f"{called.value} {called.value!r} {fetched.value} {fetched.value!r}"
    assert any(b"authorization: basic" in top.lower() for top in server.heads)  # it is sent to its server all the same


@pytest.mark.parametrize(
    "url", ["http://u:{}@xn--a", "http://u:/{}@host", "http://u:{}@127.0.0.1:1", "ftp://u:{}@host"]
)
def test_a_url_that_leads_nowhere_is_told_without_the_password(url):
    with Http(url.format(PASSWORD)) as http, pytest.raises(PeerError) as caught:
        http.call("GET", "/v1/status")

    assert PASSWORD not in str(caught.value)


def test_sources_are_named_without_the_password_and_bring_what_they_have():
    url = with_password("http://127.0.0.1:1")
    outside = outside_of([url], "", MemoryBlocks(), Classes(MemoryBlocks(), {}))

    names = [gateway_source(url).name, *(source.name for source in outside._sources)]
    assert names == ["http://***@127.0.0.1:1", "gateway:http://***@127.0.0.1:1"]
    outside.close()


def test_two_gateways_that_differ_only_in_their_passwords_are_two_and_told_apart():
    with RawServer(send(head("401 Unauthorized"))) as locked, Gateway(CONTENT) as good:
        urls = [url.replace("://", "://u:other@") for url in (locked.url, good.url)] + [with_password(good.url)]
        good._scripts.insert(0, send(head("401 Unauthorized")))
        with Retriever([gateway_source(url) for url in [*urls, urls[0]]], MemoryBlocks()) as retriever:
            found = retriever.fetch(CONTENT.root, max_bytes=10**8, patience=Patience(time.time() + 20))
            names = [source.name for source in retriever.sources]

    shown = [f"http://***@{url.rpartition('/')[2]}" for url in (locked.url, good.url)]
    assert names == [*shown, f"{shown[1]} (2)"]
    assert [share.source for share in found.shares] == names[2:]


def test_the_canary_tells_them_apart_too():
    urls = [url.replace("HOST", "127.0.0.1:1") for url in ("http://HOST", "http://u:1@HOST", "http://u:2@HOST")]

    names = [place.name for place in places_of(urls[0], [*urls[1:], urls[1]], [])]
    masked = "http://***@127.0.0.1:1"
    assert names == [f"bridge {urls[0]}", f"gateway {masked}", f"gateway {masked} (2)"]


#: a call of ours with a URL that it does not take
REFUSED = {
    "a gateway": lambda url: gateway_source(url.replace("http", "ftp")),
    "a Kubo": rpc_address,
    "a node's review API": lambda url: open_remote(url.replace("http", "ftp"), Key.random()).__enter__(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_url_that_is_refused_is_told_without_the_password(what):
    with pytest.raises(InvalidInput) as caught:
        REFUSED[what](with_password("http://127.0.0.1:1"))

    assert PASSWORD not in str(caught.value)


def test_the_command_line_tells_what_each_source_brought_without_the_password(insula, tmp_path):
    with Gateway(CONTENT) as good, RawServer(send()) as bad:
        words = ["--gateway", with_password(good.url), "--gateway", with_password(bad.url)]
        code, out, err = insula("content", "get", str(CONTENT.root), "-o", str(tmp_path / "out"), *words, "--json")
        failed = insula("content", "get", str(CONTENT.root), "-o", str(tmp_path / "x"), *words[2:], "--timeout", "1")

    assert code == 0
    assert json.loads(out)["sources"][0]["source"] == good.url.replace("://", "://***@")
    assert PASSWORD not in out + err + failed[1] + failed[2]


@pytest.mark.parametrize("answers", [True, False], ids=["a bridge", "nobody"])
def test_canary_lines_records_and_metrics_have_no_password(insula, tmp_path, answers):
    metrics = tmp_path / "canary.prom"
    with serving(tmp_path / "bridge") as served, RawServer(send()) as nobody, capture_logs() as logs:
        url = with_password(served.url if answers else nobody.url)
        words = ["--bridge", url, "--gateway", with_password(nobody.url), "--no-jobs", "--sizes", "1KiB"]
        words += ["--key", key_file(tmp_path), "--metrics", str(metrics)]
        said = [*insula("canary", "run", *words)[1:], *insula("canary", "run", *words, "--json")[1:]]

    assert "***@127.0.0.1" in said[1]
    assert ("***@127.0.0.1" in metrics.read_text()) == answers
    assert PASSWORD not in "".join(said) + metrics.read_text() + str(logs)
