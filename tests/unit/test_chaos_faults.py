"""Chance that repeats itself, faults of answers, rules of a script, settings."""

import gzip
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.devnet.chaos import faults, logs
from bridge.devnet.chaos.dice import Dice, fraction
from bridge.devnet.chaos.epochs import EpochMap
from bridge.devnet.chaos.faults import Ending
from bridge.devnet.chaos.logs import Memory, matches, spoiled
from bridge.devnet.chaos.run import depths_for
from bridge.devnet.chaos.script import (
    Delay,
    DropAfter,
    DropBefore,
    Exchange,
    Hang,
    Raw,
    Replace,
    Rule,
    Script,
    Status,
    reply_for,
)
from bridge.devnet.chaos.settings import HTTP_ERRORS, PRESETS, Settings, settings_of
from executor.errors import InvalidInput

# -- chance ---------------------------------------------------------------------------------------------------------


@given(st.integers(), st.lists(st.text()))
def test_chance_depends_on_its_arguments_alone(seed, about):
    assert 0 <= fraction(seed, *about) == fraction(seed, *about) < 1


def test_a_fault_happens_about_as_often_as_asked_for_and_the_same_way_each_time():
    runs = [[dice.happens("x", "m", 0.2) for _ in range(2000)] for dice in (Dice(1), Dice(1), Dice(2))]

    assert runs[0] == runs[1] != runs[2]
    assert 300 < sum(runs[0]) < 500
    assert not any(Dice(1).happens("x", "m", 0) for _ in range(100))
    assert all(Dice(1).happens("x", "m", 1) for _ in range(100))


def test_calls_of_other_methods_do_not_matter():
    dice, other = Dice(1), Dice(1)
    alone = [dice.happens("x", "m", 0.5) for _ in range(50)]
    mixed = [other.happens("x", "m", 0.5) for _ in range(50) if not other.happens("x", "n", 0.5) or True]

    assert alone == mixed
    assert dice.nth("x", "m") == 50


def test_what_befalls_a_thing_does_not_change():
    assert Dice(1).befalls("x", "tx", 0.5) == Dice(1).befalls("x", "tx", 0.5)
    assert {Dice(1).befalls("x", n, 0.5) for n in range(20)} == {True, False}
    assert not Dice(1).befalls("x", 1, 0)


def test_numbers_are_picked_from_the_whole_range_and_noise_is_centred():
    dice = Dice(1)
    noises = [dice.noise("fee", "m") for _ in range(2000)]

    assert {dice.pick("x", n, 1, 3) for n in range(100)} == {1, 2, 3}
    assert abs(sum(noises) / 2000) < 0.1
    assert 0.9 < math.sqrt(sum(n * n for n in noises) / 2000) < 1.1


# -- answers --------------------------------------------------------------------------------------------------------

ANSWER = {"jsonrpc": "2.0", "id": 5, "result": "0x1"}


def one(kind, answers=ANSWER, moment=faults.after):
    arguments = (Dice(1), Settings(**{kind: 1.0, "hang_seconds": 9}), "m")
    found, reply = moment(*arguments, answers) if moment is faults.after else moment(*arguments)
    assert found == kind
    return reply


def test_without_faults_nothing_happens():
    assert faults.before(Dice(1), Settings(), "m") is None
    assert faults.after(Dice(1), Settings(), "m", ANSWER) is None


def test_faults_before_the_node_is_asked():
    assert one("lost_requests", moment=faults.before).ending is Ending.CLOSE
    assert one("resets", moment=faults.before).ending is Ending.RESET
    with_header, bare = (one(kind, moment=faults.before) for kind in ("rate_limits", "rate_limits_bare"))
    assert with_header.status == bare.status == 429
    assert ("retry-after", "1") in with_header.headers
    assert "retry-after" not in dict(bare.headers)
    dice = Dice(1)
    replies = [faults.before(dice, Settings(server_errors=1), "m")[1] for _ in range(40)]
    assert {reply.status for reply in replies} == {500, 502, 503, 504}
    assert all(b"<html>" in reply.body for reply in replies)


def test_faults_of_an_answer():
    assert one("lost_responses").ending is Ending.CLOSE
    assert (one("hangs").ending, one("hangs").seconds) == (Ending.HANG, 9)
    assert (one("slow_bodies").ending, json.loads(one("slow_bodies").body)) == (Ending.DRIP, ANSWER)
    with pytest.raises(ValueError, match=r"Unterminated|delimiter"):
        json.loads(one("truncated_bodies").body)
    assert json.loads(one("wrong_ids").body)["id"] != 5
    assert {"result", "error"} <= json.loads(one("mixed_errors").body).keys()
    assert ("content-encoding", "gzip") in one("garbage_gzip").headers
    with pytest.raises((OSError, EOFError)):
        gzip.decompress(one("garbage_gzip").body)


def test_a_batch_meets_a_fault_as_a_whole():
    batch = [ANSWER, ANSWER | {"id": 6}]

    assert all(answer["id"] not in (5, 6) for answer in json.loads(one("wrong_ids", batch).body))
    assert all("error" in answer for answer in json.loads(one("mixed_errors", batch).body))


# -- logs -----------------------------------------------------------------------------------------------------------

LOGS = [{"logIndex": hex(n), "address": "0xAa", "topics": ["0x1", "0x2"]} for n in range(1, 6)]


@pytest.mark.parametrize(
    ("kind", "left"),
    [("drop_logs", []), ("truncate_logs", LOGS[:2]), ("duplicate_logs", [*LOGS, *LOGS[:3]])],
)
def test_logs_are_spoiled(kind, left):
    assert spoiled(Dice(1), Settings(**{kind: 1.0}), LOGS) == (left, [kind])
    assert spoiled(Dice(1), Settings(**{kind: 1.0}), []) == ([], [])
    assert spoiled(Dice(1), Settings(), LOGS) == (LOGS, [])


def test_log_indexes_change():
    found, _ = spoiled(Dice(1), Settings(log_index=1.0), LOGS)

    assert {log["logIndex"] for log in found} == {"0x0"}


QUERIES = {
    "everything": ({}, True),
    "its address": ({"address": "0xaa"}, True),
    "one of its addresses": ({"address": ["0xbb", "0xAA"]}, True),
    "another address": ({"address": "0xbb"}, False),
    "its topics": ({"topics": ["0x1", "0x2"]}, True),
    "any first topic": ({"topics": [None, "0x2"]}, True),
    "one of its topics": ({"topics": [["0x9", "0x1"]]}, True),
    "another topic": ({"topics": ["0x2"]}, False),
    "more topics than it has": ({"topics": [None, None, None]}, False),
}


@pytest.mark.parametrize("case", QUERIES)
def test_a_filter_finds_what_it_names(case):
    query, found = QUERIES[case]
    assert matches(LOGS[0], query) is found


def test_dead_blocks_are_remembered_with_their_logs_removed():
    memory = Memory()
    for number in range(logs.MAX_REMEMBERED + 1):
        memory.add({"hash": hex(number)}, LOGS[:1])

    assert "0x0" not in memory
    assert memory.block("0x0") is None
    assert memory.block("0x1") == {"hash": "0x1"}
    assert memory.removed("0x1", {"address": "0xaa"}) == [LOGS[0] | {"removed": True}]
    assert memory.removed("0x1", {"address": "0xbb"}) == []


# -- scripts --------------------------------------------------------------------------------------------------------


def test_a_rule_counts_its_calls():
    rule = Rule("m", DropBefore(), nth=2, times=2, where=lambda params: params == [1])

    assert not rule.matches("other", [1])
    assert not rule.matches("m", [2])
    assert [rule.matches("m", [1]) for _ in range(5)] == [False, True, True, False, False]


def test_the_newest_rule_that_matches_counts():
    script = Script([Rule("*", Replace("old"))])
    script.on("m", Replace("new"), times=1)

    assert [script.action_for("m", []).result for _ in range(2)] == ["new", "old"]
    assert script.action_for("n", []).result == "old"
    script.clear()
    assert script.action_for("m", []) is None


def test_a_script_records_calls():
    script = Script()
    script.exchanges.append(Exchange(({"method": "a"}, {"method": "b"}), True, faults.Reply()))

    assert script.methods() == ["a", "b"]
    assert script.calls("b") == [{"method": "b"}]


def test_transport_actions_are_replies():
    assert reply_for(Status(503)).status == 503
    assert reply_for(Raw(b"x")).body == b"x"
    assert (reply_for(Hang(3)).ending, reply_for(Hang(3)).seconds) == (Ending.HANG, 3)
    assert reply_for(DropBefore()).ending is reply_for(DropAfter()).ending is Ending.CLOSE
    assert Delay(1).seconds == 1


# -- settings -------------------------------------------------------------------------------------------------------


def test_everything_is_off_until_it_is_asked_for():
    given = Settings()

    assert given.dialect == "node"
    assert not any(getattr(given, name) for name in (*HTTP_ERRORS, "reorg", "null_rounds", "deferred", "tipsets"))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    assert settings_of(preset, {}) == Settings(**PRESETS[preset])
    assert settings_of(preset, {"reorg": "0.5"}).reorg == 0.5


BAD = {
    "an unknown preset": ("wild", {}, (), "--chaos-preset: is 'wild'; it is one of off, calm, rough"),
    "a probability of 2": ("off", {"reorg": 2}, (), "--reorg: is 2: "),
    "a word": ("off", {"stuck_tx": "often"}, (), "--stuck-tx: is 'often': "),
    "not a number": ("off", {"null_rounds": math.nan}, (), "--null-rounds: is nan: "),
    "an unknown dialect": ("off", {"dialect": "klingon"}, (), "--dialect: is 'klingon': "),
    "a fault of no option of its own": ("off", {"hangs": -1}, ("hangs",), "--fault hangs: is -1: "),
    "an unknown fault": ("off", {"nope": 1}, ("nope",), "--fault: there is no nope; it is one of "),
    "null rounds everywhere": ("off", {"null_rounds": 0.9}, (), "--null-rounds: is 0.9: "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_name_their_option(case):
    preset, changes, unnamed, text = BAD[case]
    with pytest.raises(InvalidInput) as caught:
        settings_of(preset, changes, unnamed)
    assert str(caught.value).startswith(text)


def test_depths_grow_with_what_can_die():
    quiet = depths_for(Settings(), EpochMap(1))
    rough = depths_for(Settings(reorg=0.1, reorg_depth=2, stale_heads=0.1, stale_lag=3), EpochMap(1, 0.2, 5))

    assert (quiet.confirmation, quiet.posting, quiet.finality) == (1, 1, 3)
    assert rough.confirmation == rough.posting >= 3
    assert rough.finality > rough.confirmation + 3
