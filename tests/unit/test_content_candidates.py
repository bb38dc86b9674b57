"""Who is next, and what each source is said to have brought."""

from contextlib import nullcontext

from executor.content.attempt import Attempt
from executor.content.candidates import Candidates, Share
from executor.content.sources import Source
from executor.protocol.cid import RAW, Cid

ONE, TWO = (Source(name, nullcontext) for name in ("one", "two"))
FIRST, SECOND = (Cid.of(RAW, block) for block in (b"first", b"second"))


def attempt(candidates, source, sizes, had=()):
    """One that is over, and brought blocks of these sizes."""
    candidates.begin(source)
    over = Attempt(source, lambda: None)
    over.sizes, over.had, over.taken = sizes, set(had), len(sizes)
    return over


def test_a_block_that_two_brought_counts_once_for_the_one_that_had_it_stored_whichever_is_over_first():
    candidates = Candidates([ONE, TWO], {}, None, 2, 0.0)
    winner = attempt(candidates, ONE, {FIRST: 10, SECOND: 5})
    loser = attempt(candidates, TWO, {FIRST: 10}, had=[FIRST])
    for over in (loser, winner):
        candidates.note(over, 1.0)

    assert candidates.shares() == (Share("one", 2, 15),)
    assert (candidates.sizes, candidates.bytes) == ({FIRST: 10, SECOND: 5}, 15)


def test_one_that_was_asked_because_another_is_slow_rests_twice_as_long_each_time_and_others_are_asked_meanwhile():
    candidates = Candidates([ONE, TWO], {}, None, 2, 0.0)
    asked = []
    for now in range(16):
        rival = candidates.rival(1.0, (), float(now))
        asked.append(rival and rival.name)
        if rival:
            candidates.begin(rival)
            candidates.rest(rival, now, window=2.0)

    assert asked == ["one", "two", "one", "two", None, None, "one", "two", *[None] * 6, "one", "two"]
