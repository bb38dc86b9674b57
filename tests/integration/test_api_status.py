"""What is seen of a bridge from outside: its status in words, its metrics, its alarms; and nothing that is secret."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.api import metrics
from bridge.api.app import create_app
from bridge.cli.main import _application, run
from bridge.cli.output import Exit
from bridge.config import ChainConfig
from bridge.jobs import JobState
from bridge.store import outbox
from bridge.store.engine import transaction
from bridge.watch import METRICS, Alarm, Metric
from executor.protocol.reasons import Reason
from tests.api_kit import AUDIENCE, serving
from tests.bridge_kit import CHAIN_ID, CONTRACT, Bridge, order_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECRET = "0123456789abcdef0123456789abcdef"
RPC = f"https://rpc.example/v3/{SECRET}"


@pytest.fixture
def bridge(tmp_path):
    chain = ChainConfig(
        rpc_urls=(RPC,),
        chain_id=CHAIN_ID,
        bridge_contract=CONTRACT,
        deploy_block=0,
        confirmation_depth=1,
        posting_depth=2,
        finality_depth=5,
    )
    bridge = Bridge(tmp_path, chain=chain)
    bridge.chain_at(110)
    yield bridge
    bridge.close()


def deliver(bridge, job, detail="", state=outbox.SendState.NEW):
    """A delivery in the outbox, as the relayer leaves it."""
    with transaction(bridge.engine) as connection:
        outbox.enqueue(connection, job.request_hash, "fulfil", b"data", bridge.clock.now)
        item = outbox.find(connection, job.request_hash, "fulfil")
        outbox.move_item(connection, item, state, bridge.clock.now, detail)


def samples(api):
    """Everything that /metrics shows: (name, labels) -> value."""
    text = api.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_bridge_at_rest_says_that_nothing_is_wrong(api):
    assert api.get("/v1/status").json()["standing"]["conclusion"] == "nothing is wrong: no request is open"


def test_a_bridge_that_has_read_nothing_says_so(tmp_path):
    bridge = Bridge(tmp_path)
    with serving(bridge) as api:
        status = api.get("/v1/status").json()
    bridge.close()

    assert (status["scannedBlock"], status["finalBlock"], status["movedAt"]) == (None, None, None)
    assert status["standing"]["conclusion"] == "waiting for: the first block from the chain"


def test_every_fact_is_in_the_json(api, bridge):
    bridge.request(order_of(), reason=Reason.NO_NODE_MATCHES)
    deliver(bridge, bridge.request(order_of(), state=JobState.POSTING), "fees are high")
    bridge.watch.set("head", 120)
    bridge.watch.alarm(Alarm.LATE_LOGS, "2 requests", 5.0)

    status = api.get("/v1/status").json()

    assert (status["scannedBlock"], status["headBlock"], status["finalBlock"]) == (110, 120, 0)
    assert status["waitingJobs"] == [
        {"state": "ready", "reason": "NO_NODE_MATCHES", "count": 1},
        {"state": "posting", "reason": "NONE", "count": 1},
    ]
    assert status["waitingDeliveries"] == [
        {"kind": "fulfil", "state": "new", "detail": "fees are high", "count": 1, "since": bridge.clock.now}
    ]
    (alarm,) = status["alarms"]
    assert (alarm["alarm"], alarm["detail"], alarm["times"], alarm["over_at"]) == ("late_logs", "2 requests", 1, None)
    assert "replace it" in alarm["remedy"]
    assert "10 behind the endpoint's head" in status["standing"]["lines"][0]
    assert "fees are high (1 delivery)" in status["standing"]["conclusion"]


def test_endpoints_are_told_by_the_heads_that_they_showed(api, bridge, monkeypatch):
    monkeypatch.setitem(METRICS, "endpoint_head", Metric("gauge", "Head", ("endpoint",)))
    bridge.watch.set("endpoint_head", 100, endpoint="a:443")
    bridge.watch.set("endpoint_head", 90, endpoint="b:443")

    status = api.get("/v1/status").json()

    assert status["endpoints"] == [{"name": "a:443", "head": 100}, {"name": "b:443", "head": 90}]
    assert "endpoint b:443: 10 blocks behind the others" in status["standing"]["lines"]


def said(capsys, *words):
    """What the command line says for people."""
    assert run(lambda: _application()(list(words))) == Exit.OK
    return capsys.readouterr().out


def test_the_command_line_says_it_in_sentences(api, bridge, capsys):
    bridge.request(order_of(), reason=Reason.NO_NODE_MATCHES)
    bridge.watch.alarm(Alarm.LATE_LOGS, "2 requests", bridge.clock.now - 600)
    text = said(capsys, "bridge", "status", "--bridge", api.base)

    assert "jobs: 1 job ready (NO_NODE_MATCHES): waiting for a node with what the request asks for" in text
    assert "alarm late_logs (first 10 min ago, once, its cause stands): 2 requests" in text
    assert "-> late_logs: Nothing was lost" in text
    assert text.splitlines()[-1].startswith("waiting for: a look at the alarms late_logs; a node with")


def test_the_command_line_lists_alarms_with_what_to_do(api, bridge, capsys):
    assert said(capsys, "bridge", "alarms", "--bridge", api.base) == "no alarm is raised\n"
    bridge.watch.alarm(Alarm.LATE_LOGS, "2 requests", 86_400.0)
    bridge.watch.over(Alarm.LATE_LOGS, 90_000.0)
    text = said(capsys, "bridge", "alarms", "--bridge", api.base)

    assert "once, last 1970-01-02 00:00:00Z; its cause is gone since 1970-01-02 01:00:00Z" in text
    assert "-> Nothing was lost" in text


def test_failing_loops_are_named_with_their_error(bridge):
    loop = {
        "name": "listener",
        "last_step_at": bridge.clock.now - 60,
        "failing_since": bridge.clock.now - 50,
        "last_error": f"RpcUnavailable: {RPC} says no",
        "failures_in_a_row": 9,
    }
    with serving(bridge, loops=lambda: [loop]) as api:
        status, seen = api.get("/v1/status").json(), samples(api)

    assert "waiting for: loop listener to succeed" in status["standing"]["conclusion"]
    assert status["loops"][0]["last_error"] == "RpcUnavailable: https://rpc.example says no"
    assert seen["insula_loop_failures", (("loop", "listener"),)] == 9
    assert seen["insula_loop_step_age_seconds", (("loop", "listener"),)] == 60


def test_no_secret_of_an_endpoint_is_shown(api, bridge):
    deliver(bridge, bridge.request(order_of(), state=JobState.POSTING), f"key {SECRET} has no credit at {RPC}")
    bridge.watch.alarm(Alarm.ENDPOINT_REFUSED, f"{RPC} is on chain 1", 5.0)

    text = api.get("/v1/status").text + api.get("/metrics").text

    assert SECRET not in text
    assert "https://rpc.example is on chain 1" in text


def test_metrics_show_the_watch_the_outbox_and_the_alarms(api, bridge, monkeypatch):
    monkeypatch.setitem(METRICS, "tried", Metric("counter", "Tried", ("what",)))
    monkeypatch.setitem(METRICS, "untried", Metric("counter", "Never counted"))
    bridge.watch.set("head", 120)
    bridge.watch.count("tried", 2, what='a"b')
    bridge.watch.alarm(Alarm.NO_FUNDS, "empty", 5.0)
    deliver(bridge, bridge.request(order_of(), state=JobState.POSTING), state=outbox.SendState.SENT)

    seen = samples(api)

    assert seen["insula_head", ()] == 120
    assert seen["insula_tried_total", (("what", 'a"b'),)] == 2
    assert seen["insula_untried_total", ()] == 0
    assert seen["insula_alarm", (("name", "no_funds"),)] == 1
    assert seen["insula_alarm", (("name", "day_cap"),)] == 0
    assert seen["insula_outbox", (("state", "sent"),)] == 1
    assert seen["insula_outbox", (("state", "new"),)] == 0
    assert seen["insula_transactions", (("fate", "open"),)] == 0
    assert seen["insula_stored_block", (("position", "scanned"),)] == 110


def registered(bridge):
    """Name -> (kind, labels) of everything that a bridge could show, without values."""
    from fastapi import FastAPI

    registry = metrics.install(FastAPI(), bridge.dispatcher, bridge.clock, list, bridge.watch)
    return {
        family.name: family.type
        for family in registry.collect()
        if family.name.startswith("insula_") and not family.name.endswith("_created")
    }


def table(page, name):
    text = (DOCS / page).read_text().split(f"<!-- {name}: begin", 1)[1].split(f"<!-- {name}: end", 1)[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in rows]


def test_every_metric_is_documented_with_its_kind(bridge):
    assert {name: kind for name, kind, *_ in table("metrics.md", "metrics")} == registered(bridge)


def test_the_labels_of_what_loops_write_are_documented():
    documented = {name: labels for name, _, labels, *_ in table("metrics.md", "metrics")}

    for name, metric in METRICS.items():
        assert documented[f"insula_{name}"] == ", ".join(metric.labels), name


def test_every_metric_says_what_is_normal():
    assert [name for name, *_, normal in table("metrics.md", "metrics") if not normal] == []


def test_every_alarm_is_documented():
    assert {name for name, _ in table("metrics.md", "alarms")} == {alarm.value for alarm in Alarm}


def test_the_alert_rules_name_only_metrics_and_alarms_that_there_are(bridge):
    rules = (DOCS / "alerts.yaml").read_text()
    counters = {f"{name}_total" if kind == "counter" else name for name, kind in registered(bridge).items()}
    named = re.findall(r'insula_alarm\{name=~"([^"]*)"', rules)

    assert set(re.findall(r"insula_[a-z_]+", rules)) - counters == set()
    assert {name for group in named for name in group.split("|")} <= {alarm.value for alarm in Alarm}


def test_the_api_can_be_made_without_a_watch(bridge):
    app = create_app(bridge.dispatcher, bridge.engine, AUDIENCE, bridge.clock)

    assert json.dumps(app.openapi())
