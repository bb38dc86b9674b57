"""Which node gets which job, and what is said where none does."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.routing import (
    Fit,
    Floor,
    NodeSnapshot,
    Taken,
    check_node,
    could_fit,
    free_of,
    hashes_to_ask,
    label_words,
    need_of,
    price_reason,
    required_labels,
    summary,
    time_reason,
    weightier,
)
from executor.errors import InvalidInput
from executor.protocol.labels import ADMITTED
from executor.protocol.leases import Capacity
from executor.protocol.reasons import Reason
from executor.protocol.spec import job_of
from executor.protocol.wire import ZERO_ADDRESS, label_hash
from tests.bridge_kit import CURATOR, GIB, advert, capacity, key_of, operator_of, order_of, spec_bytes

NOBODY = Taken(resting={})


def need(*labels, **changes):
    order = order_of(*labels, **changes)
    return need_of(order, job_of(order, order.spec))


def snapshot(*words, carried=None, **changes):
    """A node of which all of its words count, unless `carried` says which."""
    said = advert(ADMITTED, *words, **changes.pop("advert", {}))
    counting = {ADMITTED, *words} if carried is None else set(carried)
    fields = {
        "node_id": 1,
        "key": key_of("node a").address,
        "operator": operator_of("a"),
        "advert": said,
        "free": said.free,
        "counted": frozenset(counting),
        "carried": frozenset(map(label_hash, counting)),
        **changes,
    }
    return NodeSnapshot(**fields)


def test_a_node_that_carries_everything_fits():
    reason = check_node(need("site=camera"), snapshot("site=camera"), NOBODY)

    assert reason.code is Fit.FITS
    assert (reason.node_id, reason.key) == (1, key_of("node a").address)


def test_an_order_without_labels_needs_the_curators_admission():
    assert required_labels(need()) == (label_hash(ADMITTED),)
    assert check_node(need(), snapshot(carried=[]), NOBODY).code is Fit.NOT_VOUCHED


def test_an_order_without_a_curator_needs_no_admission():
    open_to_all = need(curator=ZERO_ADDRESS)

    assert required_labels(open_to_all) == ()
    assert check_node(open_to_all, snapshot(carried=[]), NOBODY).code is Fit.FITS


#: name -> (what the job needs, the node, what else holds, code, words in the text)
REASONS = {
    "a label that the curator did not vouch for": (
        need("site=camera"),
        snapshot("site=camera", carried=[ADMITTED]),
        NOBODY,
        Fit.NOT_VOUCHED,
        ["site=camera", CURATOR],
    ),
    "a label on the node's own word, not declared": (
        need("site=camera", curator=ZERO_ADDRESS),
        snapshot(carried=[ADMITTED]),
        NOBODY,
        Fit.NOT_VOUCHED,
        ["site=camera", "its own word"],
    ),
    "a label that no selector repeats is named by its hash": (
        need_of(order_of("site=camera", spec=b"not a spec"), None),
        snapshot(),
        NOBODY,
        Fit.NOT_VOUCHED,
        [label_hash("site=camera").hex()],
    ),
    "a selector requirement": (
        need(spec=spec_bytes(selector="cores>8,zone in (a,b)")),
        snapshot("cores=4", "zone=a"),
        NOBODY,
        Fit.SELECTOR_UNMET,
        ["cores>8"],
    ),
    "a word of the node itself that does not count meets no requirement": (
        need(spec=spec_bytes(selector="gpu")),
        snapshot("gpu=yes", carried=[ADMITTED]),
        NOBODY,
        Fit.SELECTOR_UNMET,
        ["gpu"],
    ),
    "the tier": (
        need(spec=spec_bytes(engine={"type": "docker", "image": f"sha256:{'0' * 64}", "tier": "gvisor"})),
        snapshot(),
        NOBODY,
        Fit.TIER_MISSING,
        ["gvisor", "wasm, container"],
    ),
    "no tier at all": (need(), snapshot(advert={"tiers": ()}), NOBODY, Fit.TIER_MISSING, ["it has none"]),
    "the unit price": (
        need(),
        snapshot(advert={"min_unit_price": 1001}),
        NOBODY,
        Fit.PRICE_TOO_LOW,
        ["unitPrice 1000", "1001"],
    ),
    "the fail price": (
        need(),
        snapshot(advert={"min_fail_price": 101}),
        NOBODY,
        Fit.PRICE_TOO_LOW,
        ["failPrice 100", "101"],
    ),
    "a slot of this request": (need(), snapshot(), Taken(nodes=frozenset({1}), resting={}), Fit.HAS_SLOT, ["already"]),
    "an operator with a slot of this request": (
        need(),
        snapshot(),
        Taken(operators=frozenset({operator_of("a")}), resting={}),
        Fit.OPERATOR_HAS_SLOT,
        [operator_of("a")],
    ),
    "a lease given back": (need(), snapshot(), Taken(resting={1: "gave a lease back"}), Fit.GAVE_BACK, ["gave"]),
    "slots": (need(), snapshot(free=capacity(slots=0)), NOBODY, Fit.NO_ROOM, ["slots", "1 are needed, 0 are free"]),
    "cpu": (need(), snapshot(free=capacity(cpu=999)), NOBODY, Fit.NO_ROOM, ["cpuMillis", "999"]),
    "memory": (need(), snapshot(free=capacity(memory=1)), NOBODY, Fit.NO_ROOM, ["memoryBytes"]),
    "disk": (need(), snapshot(free=capacity(disk=1)), NOBODY, Fit.NO_ROOM, ["diskBytes"]),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_says_what_is_missing(name):
    wanted, node, taken, code, words = REASONS[name]

    reason = check_node(wanted, node, taken)

    assert reason.code is code
    assert [word for word in words if word not in reason.text] == []


def test_what_cannot_change_is_said_before_what_can():
    busy_and_unvouched = snapshot(carried=[], free=capacity(slots=0))

    assert check_node(need(), busy_and_unvouched, NOBODY).code is Fit.NOT_VOUCHED


def test_a_spec_that_can_never_run_needs_no_room_and_no_tier_but_the_labels():
    wanted = need_of(order_of("site=camera", spec=b"{"), None)

    full = snapshot("site=camera", advert={"tiers": ()}, free=capacity(slots=1, cpu=0, memory=0, disk=0))
    assert check_node(wanted, full, NOBODY).code is Fit.FITS
    assert check_node(wanted, snapshot(), NOBODY).code is Fit.NOT_VOUCHED


#: name -> (advert, whether a look at the chain can be worth it)
GLANCES = {
    "everything there": (advert(ADMITTED, "site=camera"), True),
    "a pinned label not advertised": (advert(ADMITTED), False),
    "the tier missing": (advert(ADMITTED, "site=camera", tiers=("gvisor",)), False),
    "no room": (advert(ADMITTED, "site=camera", free=capacity(slots=0)), False),
    "too low a price": (advert(ADMITTED, "site=camera", min_unit_price=10**9), False),
}


@pytest.mark.parametrize("name", GLANCES)
def test_a_glance_spares_the_chain_a_question(name):
    said, worth = GLANCES[name]

    assert could_fit(need("site=camera"), said, label_words(said)) is worth


WORDS = st.sampled_from(["site=a", "site=b", "gpu=yes", "cores=4", "cores=16"])
SELECTORS = st.sampled_from(["", "site=a", "site in (a,b)", "!gpu", "gpu", "cores>8", "site!=a", "site=a,!gpu"])


@given(st.sets(WORDS), st.sets(WORDS), SELECTORS)
def test_a_glance_never_says_no_to_a_node_that_fits(words, counted, selector):
    wanted = need(spec=spec_bytes(selector=selector))
    said = advert(ADMITTED, *sorted(words))
    counting = {ADMITTED, *(words & counted)}
    node = snapshot(*sorted(words), carried=counting)

    fits = check_node(wanted, node, NOBODY).code is Fit.FITS
    assert could_fit(wanted, said, label_words(said)) or not fits


@given(st.sets(WORDS), st.sets(WORDS), SELECTORS)
def test_only_words_that_count_matter(words, more, selector):
    wanted = need(spec=spec_bytes(selector=selector))
    one = snapshot(*sorted(words), carried={ADMITTED, *words})
    other = snapshot(*sorted(words | more), carried={ADMITTED, *words})

    assert check_node(wanted, one, NOBODY).code is check_node(wanted, other, NOBODY).code


def test_the_chain_is_asked_about_the_orders_labels_and_the_nodes_words_once_each():
    words = label_words(advert(ADMITTED, "site=camera", "gpu=yes"))

    asked = hashes_to_ask(need("site=camera"), words.values())

    assert list(asked) == sorted({label_hash(w) for w in (ADMITTED, "site=camera", "gpu=yes")})


def test_a_word_that_is_no_label_is_refused_by_name():
    with pytest.raises(InvalidInput) as caught:
        label_words(advert("site camera"))

    assert caught.value.field == "labels"


def test_free_is_never_more_than_the_total_less_what_leases_reserve():
    said = advert(free=capacity(4, 4000, 4 * GIB, 4 * GIB), total=capacity(4, 4000, 4 * GIB, 4 * GIB))
    reserved = Capacity(slots=3, cpu_millis=3500, memory_bytes=5 * GIB, disk_bytes=GIB)

    assert free_of(said, reserved, 64) == Capacity(slots=1, cpu_millis=500, memory_bytes=0, disk_bytes=3 * GIB)


@pytest.mark.parametrize(("left", "slots"), [(5, 4), (3, 3), (0, 0), (-1, 0)])
def test_free_is_never_more_than_the_bridge_lets_a_node_have(left, slots):
    assert free_of(advert(), Capacity(slots=0, cpu_millis=0, memory_bytes=0, disk_bytes=0), left).slots == slots


def test_free_is_never_more_than_the_node_says():
    said = advert(free=capacity(slots=1), total=capacity(slots=4))

    assert free_of(said, Capacity(slots=0, cpu_millis=0, memory_bytes=0, disk_bytes=0), 64).slots == 1


@pytest.mark.parametrize(
    ("floor", "word"), [(Floor(unit_price=1001), "unitPrice"), (Floor(delivery_fee=11), "deliveryFee")]
)
def test_an_order_below_the_bridges_minimum_says_which_price(floor, word):
    assert word in price_reason(order_of(), {ZERO_ADDRESS: floor})


TOKEN, OTHER = "0x00000000000000000000000000000000C0FFEE01", "0x00000000000000000000000000000000C0ffee02"
FLOORS = {ZERO_ADDRESS: Floor(unit_price=10**20), TOKEN: Floor(unit_price=7, delivery_fee=3)}
#: what is ordered -> (token, unitPrice, deliveryFee, minimums, what the reason says; "" where there is none)
IN_TOKENS = {
    "in a token where none is taken": (TOKEN, 10**30, 0, {ZERO_ADDRESS: Floor()}, "the chain's own token only"),
    "in a token that is not taken": (OTHER, 10**30, 0, FLOORS, f"the chain's own token and {TOKEN}"),
    "below the token's unitPrice": (TOKEN, 6, 3, FLOORS, "minimum is 7"),
    "below the token's deliveryFee": (TOKEN, 7, 2, FLOORS, "minimum is 3"),
    "at the token's minimums": (TOKEN, 7, 3, FLOORS, ""),
}


@pytest.mark.parametrize("what", IN_TOKENS)
def test_an_order_that_pays_in_a_token_is_held_against_that_tokens_minimums(what):
    token, unit_price, delivery_fee, floors, said = IN_TOKENS[what]
    order = replace(order_of(), token=token, unit_price=unit_price, delivery_fee=delivery_fee)

    reason = price_reason(order, floors)

    assert (reason is None) is (said == "")
    assert said in (reason or "")
    assert said == "" or token in reason or "minimum" in reason


#: what the node asks for -> (its advert, whether it fits)
TOKEN_NODES = {
    "nothing": ({}, True),
    "a price in the chain's own token only": ({"min_unit_price": 1}, False),
    "a failPrice in the chain's own token only": ({"min_fail_price": 1}, False),
    "a price in another token only": ({"tokens": {OTHER: {"min_unit_price": 0}}}, False),
    "what is paid": (
        {"min_unit_price": 10**30, "tokens": {TOKEN: {"min_unit_price": 1000, "min_fail_price": 100}}},
        True,
    ),
    "a higher price": ({"tokens": {TOKEN: {"min_unit_price": 1001}}}, False),
    "a higher failPrice": ({"tokens": {TOKEN: {"min_unit_price": 0, "min_fail_price": 101}}}, False),
}


@pytest.mark.parametrize("what", TOKEN_NODES)
def test_a_node_gets_a_job_that_pays_in_a_token_by_its_own_prices_in_that_token(what):
    advertised, fits = TOKEN_NODES[what]

    found = check_node(need(token=TOKEN), snapshot(advert=advertised), NOBODY)

    assert found.code is (Fit.FITS if fits else Fit.PRICE_TOO_LOW)
    assert fits or TOKEN in found.text or "minimum" in found.text


def test_an_order_at_the_bridges_minimum_is_good():
    assert price_reason(order_of(), {ZERO_ADDRESS: Floor(unit_price=1000, delivery_fee=10)}) is None


@pytest.mark.parametrize(("now", "late"), [(849.0, False), (850.0, True), (10_000.0, True)])
def test_the_wall_limit_and_the_margin_have_to_fit_before_the_deadline(now, late):
    reason = time_reason(need(), deadline=1000, now=now, margin=120)  # wallSeconds is 30

    assert (reason is not None) is late
    assert reason is None or "wallSeconds 30" in reason


def reason_of(code):
    node = snapshot()
    base = check_node(need(), node, NOBODY)
    return type(base)(node_id=base.node_id, key=base.key, code=code, text=f"because {code}")


#: name -> (codes of the connected nodes, summary)
SUMMARIES = {
    "nobody connected": ([], Reason.NO_NODE_MATCHES),
    "nobody matches": ([Fit.NOT_VOUCHED, Fit.SELECTOR_UNMET, Fit.TIER_MISSING], Reason.NO_NODE_MATCHES),
    "one fits": ([Fit.NOT_VOUCHED, Fit.FITS], Reason.NONE),
    "all busy": ([Fit.NO_ROOM, Fit.NOT_VOUCHED], Reason.NODES_BUSY),
    "one busy, one gave back": ([Fit.GAVE_BACK, Fit.NO_ROOM], Reason.NODES_BUSY),
    "all that match gave back": ([Fit.GAVE_BACK, Fit.NOT_VOUCHED], Reason.ATTEMPTS_EXHAUSTED),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_of_many_nodes(name):
    codes, expected = SUMMARIES[name]

    assert summary([reason_of(code) for code in codes])[0] is expected


def test_a_summary_says_once_what_holds_for_each_node():
    assert summary([reason_of(Fit.NOT_VOUCHED)] * 2)[1].startswith("none of 2 connected nodes matches; each: ")
    assert "; the first: " in summary([reason_of(Fit.NOT_VOUCHED)])[1]


LATE = (Reason.TOO_LATE, "too little time")
#: what else is known -> what is told
WEIGHED = {
    "a label that nobody carries outranks it": ((Reason.NO_NODE_MATCHES, "none"), (Reason.NO_NODE_MATCHES, "none")),
    "so do attempts that came to nothing": ((Reason.ATTEMPTS_EXHAUSTED, "all"), (Reason.ATTEMPTS_EXHAUSTED, "all")),
    "busy nodes are told beside it": ((Reason.NODES_BUSY, "busy"), (Reason.TOO_LATE, "too little time; busy")),
    "a node that fits adds nothing": ((Reason.NONE, "fits"), LATE),
}


@pytest.mark.parametrize("what", WEIGHED)
def test_near_the_deadline(what):
    cause, told = WEIGHED[what]

    assert weightier(LATE, cause) == told
