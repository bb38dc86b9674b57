"""The type of a file by what is in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.audit.magic import HEAD_BYTES, type_of

CASES = {
    "empty": (b"", "empty"),
    "png": (b"\x89PNG\r\n\x1a\n....", "image/png"),
    "zip": (b"PK\x03\x04..", "application/zip"),
    "gzip": (b"\x1f\x8b\x08", "application/gzip"),
    "elf": (b"\x7fELF\x02", "application/x-elf"),
    "script": (b"#!/bin/sh\n", "text/x-script"),
    "tar": (b"name".ljust(257, b"\0") + b"ustar\x0000", "application/x-tar"),
    "text": ("a,b\r\n1\té\n".encode(), "text"),
    "text cut within a character": (("x" * (HEAD_BYTES - 1) + "é").encode()[:HEAD_BYTES], "text"),
    "a short file that ends within a character": ("é".encode()[:1], "binary"),
    "not UTF-8": (b"a\xffb", "binary"),
    "a terminal's control characters": (b"\x1b[2J", "binary"),
    "a NUL": (b"a\0b", "binary"),
}


@pytest.mark.parametrize(("head", "expected"), CASES.values(), ids=CASES)
def test_a_type_is_told_by_content(head, expected):
    assert type_of(head) == expected


@given(st.binary(max_size=HEAD_BYTES))
def test_any_head_has_a_type(head):
    assert type_of(head)
