"""What a receipt holds is bounded, whatever a job's author and its output bring."""

import json

from hypothesis import given
from hypothesis import strategies as st

from executor.agent.record import MAX_DETAIL_CHARS, MAX_MANIFEST_BYTES, bounded_rows, one_line
from executor.protocol.canonical import canonical_json

ROW = st.fixed_dictionaries(
    {"path": st.text(max_size=400), "type": st.just("file"), "size": st.integers(0, 2**40), "cid": st.just("b" * 59)}
)


@given(st.text(st.characters(), max_size=2000))
def test_a_detail_becomes_one_line_that_can_be_written_down(text):
    line = one_line(text)

    assert line.isprintable()
    assert len(line) <= 10 * MAX_DETAIL_CHARS
    canonical_json({"detail": line})


def test_plain_text_stays_as_it_is():
    assert one_line("spec.engine: is missing é") == "spec.engine: is missing é"


@given(st.lists(ROW, max_size=20))
def test_a_small_manifest_is_whole(rows):
    assert bounded_rows(rows) == rows


def test_a_large_manifest_is_cut_and_says_how_much_is_left_out():
    rows = [{"path": f"outputs/{n}", "type": "file", "size": n, "cid": "b" * 59} for n in range(10_000)]

    kept = bounded_rows(rows)

    assert kept[:-1] == rows[: len(kept) - 1]
    assert kept[-1] == {"omitted": len(rows) - len(kept) + 1}
    assert len(json.dumps(kept)) < 1.1 * MAX_MANIFEST_BYTES
