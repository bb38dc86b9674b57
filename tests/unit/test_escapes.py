"""Published escapes of container runtimes: which versions and packages are mended, and what an operator accepts."""

import re

import pytest

from executor.audit.policy import Policy
from executor.errors import InvalidInput
from executor.sandbox.escapes import (
    ESCAPES,
    EXCLUDED,
    PACKAGES,
    UNKNOWN_VERSION,
    Found,
    dangers,
    names,
    parsed,
    refusal,
)

PROC = {"CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"}

CASES = {
    "the first mended 1.2": (Found("runc", "1.2.8"), set()),
    "one before it": (Found("runc", "1.2.7"), PROC),
    "a branch that came later": (Found("runc", "1.3.2"), PROC),
    "the first mended 1.3": (Found("runc", "1.3.3"), set()),
    "a candidate before the mended one": (Found("runc", "1.4.0-rc.2"), PROC),
    "the mended candidate": (Found("runc", "1.4.0-rc.3"), set()),
    "a branch that was never vulnerable": (Found("runc", "1.6.0"), set()),
    "a candidate of 1.5": (Found("runc", "v1.5.0-rc.3"), set()),
    "an old one": (Found("runc", "1.1.11"), PROC | {"CVE-2024-21626", "CVE-2024-45310"}),
    "before the leak of descriptors": (
        Found("runc", "1.0.0-rc92"),
        PROC | {"CVE-2021-30465", "CVE-2022-29162", "CVE-2023-28642", "CVE-2024-45310"},
    ),
    "Debian 12": (Found("runc", "1.1.5+ds1", "runc 1.1.5+ds1-1+deb12u1"), PROC | {"CVE-2024-45310"}),
    "Debian 12, rebuilt": (Found("runc", "1.1.5+ds1", "runc 1.1.5+ds1-1+deb12u1+b3"), PROC | {"CVE-2024-45310"}),
    "Debian 12, before its update": (
        Found("runc", "1.1.5+ds1", "runc 1.1.5+ds1-1"),
        PROC | {"CVE-2024-21626", "CVE-2024-45310"},
    ),
    "gVisor by its day": (Found("runsc", "release-20250319.0"), set()),
    "gVisor of Debian 12": (Found("runsc", "0.0~20221219.0", "runsc 0.0~20221219.0-2+b3"), {"CVE-2025-2713"}),
    "containerd": (Found("containerd", "1.6.20~ds1"), set()),
    "an old containerd": (Found("containerd", "1.4.10"), {"CVE-2021-41103"}),
    "no version": (Found("runc", ""), {UNKNOWN_VERSION}),
    "a name in place of a version": (Found("runc", "unknown"), {UNKNOWN_VERSION}),
    "gVisor without a day": (Found("runsc", "1.2.3"), {UNKNOWN_VERSION}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_runtime_has_the_escapes_that_are_not_mended_in_it(case):
    found, expected = CASES[case]

    assert {danger.name for danger in dangers(found)} == expected


def test_a_package_that_nobody_looked_at_is_unknown_and_not_unfixed():
    looked_at = dangers(Found("runc", "1.1.5+ds1", "runc 1.1.5+ds1-1+deb12u1"))
    newer = dangers(Found("runc", "1.1.5+ds1", "runc 1.1.5+ds1-1+deb12u9"))

    assert {danger.state for danger in looked_at} == {"unfixed"}
    assert {danger.state for danger in newer} == {"unknown"}
    assert "CVE-2024-21626 (unknown in runc 1.1.5+ds1 (runc 1.1.5+ds1-1+deb12u9)" in refusal(newer, ())


def test_a_refusal_names_each_escape_and_what_to_write():
    found = dangers(Found("containerd", "1.4.10"))

    assert 'accept_escapes = ["CVE-2021-41103"]' in refusal(found, ())
    assert refusal(found, ["CVE-2021-41103"]) == ""
    assert refusal(dangers(Found("runc", "?")), PROC).endswith('accept_escapes = ["unknown-version"]')
    assert refusal(dangers(Found("runc", "?")), names()) == ""


def test_every_entry_of_the_table_can_be_read():
    assert len({escape.name for escape in ESCAPES}) == len(ESCAPES)
    for escape in ESCAPES:
        versions = [parsed(text, escape.component) for text in escape.fixed]
        assert None not in versions
        assert versions == sorted(versions)
        assert re.fullmatch(r"CVE-\d{4}-\d{4,}", escape.name)
        assert escape.name not in EXCLUDED
    assert set().union(*PACKAGES.values()) <= set(names())


def test_a_policy_accepts_escapes_by_their_names_only():
    assert Policy.parse({"accept_escapes": list(names())}).accept_escapes == names()
    assert Policy().accept_escapes == ()
    for bad in ("all", "CVE-2025", "cve-2025-31133"):
        with pytest.raises(InvalidInput, match="accept_escapes"):
            Policy.parse({"accept_escapes": [bad]})
