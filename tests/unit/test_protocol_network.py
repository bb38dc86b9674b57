"""Destinations: which words are host names, and what a spec may ask for."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.protocol.network import Destination, admitted, covers, host_problem, is_host, order_problem
from executor.protocol.reasons import Reason
from executor.protocol.spec import InvalidSpec, JobSpec

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "network.json").read_text(encoding="utf-8"))
IMAGE = "sha256:" + "0f" * 32
MODULE = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


def spec(network, engine=None):
    return {
        "version": "insula/v1",
        "engine": engine or {"type": "docker", "image": IMAGE},
        **({"network": network} if network is not None else {}),
    }


@pytest.mark.parametrize("case", VECTORS["accepted"], ids=[case["name"] for case in VECTORS["accepted"]])
def test_a_network_of_the_vectors_is_read_as_they_say(case):
    job = JobSpec.from_json(spec(case["network"]))

    assert [[one.host, list(one.ports)] for one in job.network] == case["destinations"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=[case["name"] for case in VECTORS["refused"]])
def test_a_network_of_the_vectors_is_refused_by_the_name_of_its_field(case):
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.from_json(spec(case["network"], case.get("engine")))

    assert (caught.value.reason.name, caught.value.field) == (case["reason"], case["field"])


def test_a_job_that_names_no_network_has_none():
    assert JobSpec.from_json(spec(None)).network == ()


@pytest.mark.parametrize("engine", ["wasm", "gvisor"])
def test_a_tier_that_has_no_network_says_so(engine):
    given = (
        {"type": "wasm", "module": MODULE} if engine == "wasm" else {"type": "docker", "image": IMAGE, "tier": engine}
    )
    with pytest.raises(InvalidSpec, match=f"tier {engine} has no network") as caught:
        JobSpec.from_json(spec({"allow": [{"host": "a.example.org", "ports": [443]}]}, given))

    assert caught.value.reason == Reason.SPEC_UNSUPPORTED


@pytest.mark.parametrize(
    ("pattern", "host", "does"),
    [
        ("a.example.org", "a.example.org", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "b.a.example.org", True),
        ("*.example.org", "*.a.example.org", True),
        ("*.example.org", "*.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "aexample.org", False),
        ("*.a.example.org", "*.example.org", False),
        ("a.example.org", "*.example.org", False),
        ("a.example.org", "b.example.org", False),
    ],
)
def test_a_pattern_covers_names_below_it_and_nothing_else(pattern, host, does):
    assert covers(pattern, host) is does


def test_a_destination_is_a_host_and_its_ports():
    named = [Destination("a.example.org", (80, 443)), Destination("b.example.org", (443,))]

    assert admitted(named, "a.example.org", 80)
    assert not admitted(named, "b.example.org", 80)
    assert not admitted([], "b.example.org", 443)


@given(st.ip_addresses())
def test_no_address_is_a_host_name(address):
    spelled = [str(address), f"[{address}]", hex(int(address)), str(int(address)), f"{address}.", f"::ffff:{address}"]

    assert not any(is_host(text) for text in spelled)


@given(st.lists(st.integers(0, 9)))
def test_a_list_is_in_order_when_it_is_sorted_and_each_entry_stands_once(values):
    assert (order_problem(values) == "") == (values == sorted(set(values)))


def test_the_longest_name_is_a_name():
    labels = ".".join(["a" * 63] * 3)

    assert host_problem(f"{labels}.{'a' * 61}") == ""
    assert host_problem(f"{labels}.{'a' * 62}")
    assert host_problem(f"*.{labels}.{'a' * 60}")
