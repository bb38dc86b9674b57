"""Alarms latch, are counted, outlive the process, and go when a person acknowledges them."""

import pytest
from structlog.testing import capture_logs

from bridge.alarms import REMEDIES, AlarmKeeper
from bridge.store.alarms import acknowledge, has_alarms, raised_alarms
from bridge.store.engine import open_engine, reading, transaction
from bridge.store.migrations import migrate
from bridge.watch import METRICS, Alarm, Metric, Raised, Watch


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'bridge.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


def stored(engine):
    with reading(engine) as connection:
        return raised_alarms(connection)


def restarted(engine):
    """Watch and keeper of a new process on the same database."""
    watch = Watch()
    keeper = AlarmKeeper(engine, watch)
    keeper.step()
    return watch, keeper


def test_an_alarm_stays_after_its_cause_is_gone():
    watch = Watch()
    watch.alarm(Alarm.LOW_BALANCE, "3 deliveries left", 10.0)
    watch.over(Alarm.LOW_BALANCE, 20.0)

    assert watch.alarms() == [Raised(Alarm.LOW_BALANCE, "3 deliveries left", 10.0, 10.0, 1, 20.0)]


def test_an_alarm_that_was_not_raised_is_not_over():
    watch = Watch()
    watch.over(Alarm.LOW_BALANCE, 20.0)

    assert watch.alarms() == []


def test_raising_again_counts_and_keeps_the_first_time():
    watch = Watch()
    watch.alarm(Alarm.STALE_HEAD, "old", 10.0)
    watch.over(Alarm.STALE_HEAD, 15.0)
    watch.alarm(Alarm.STALE_HEAD, "older", 20.0)

    assert watch.alarms() == [Raised(Alarm.STALE_HEAD, "older", 10.0, 20.0, 2, None)]


def test_only_the_first_of_many_is_an_error_in_the_log():
    watch = Watch()
    with capture_logs() as logs:
        for now in range(150):
            watch.alarm(Alarm.STALE_HEAD, "old", float(now))

    assert [(entry["log_level"], entry.get("times")) for entry in logs] == [
        ("error", None),
        ("warning", 10),
        ("warning", 100),
    ]


def test_a_cause_that_comes_back_is_an_error_again():
    watch = Watch()
    watch.alarm(Alarm.STALE_HEAD, "old", 1.0)
    watch.over(Alarm.STALE_HEAD, 2.0)
    with capture_logs() as logs:
        watch.alarm(Alarm.STALE_HEAD, "old again", 3.0)

    assert [entry["log_level"] for entry in logs] == ["error"]


def test_the_keeper_is_called_for_what_is_new_and_not_for_repeats():
    watch, calls = Watch(), []
    watch.on_news = lambda: calls.append(1)
    for now in range(5):
        watch.alarm(Alarm.STALE_HEAD, "old", float(now))
    watch.over(Alarm.STALE_HEAD, 9.0)

    assert len(calls) == 2


def test_a_detail_of_any_length_is_cut():
    watch = Watch()
    watch.alarm(Alarm.STALE_HEAD, "x" * 100_000, 1.0)

    assert len(watch.alarms()[0].detail) == 1000


def test_alarms_survive_a_restart_and_go_on_counting(engine):
    watch, keeper = restarted(engine)
    watch.alarm(Alarm.LATE_LOGS, "2 requests", 10.0)
    watch.alarm(Alarm.LATE_LOGS, "2 requests", 11.0)
    keeper.step()

    watch, keeper = restarted(engine)
    assert watch.alarms() == [Raised(Alarm.LATE_LOGS, "2 requests", 10.0, 11.0, 2)]
    watch.alarm(Alarm.LATE_LOGS, "1 request", 30.0)
    keeper.step()

    expected = Raised(Alarm.LATE_LOGS, "1 request", 10.0, 30.0, 3)
    assert watch.alarms() == [expected]
    assert stored(engine) == {Alarm.LATE_LOGS: expected}


def test_that_a_cause_is_gone_survives_a_restart(engine):
    watch, keeper = restarted(engine)
    watch.alarm(Alarm.NO_FUNDS, "empty", 10.0)
    keeper.step()
    watch, keeper = restarted(engine)
    watch.over(Alarm.NO_FUNDS, 20.0)
    keeper.step()

    assert stored(engine) == {Alarm.NO_FUNDS: Raised(Alarm.NO_FUNDS, "empty", 10.0, 10.0, 1, 20.0)}


def test_what_another_process_acknowledges_goes_from_a_running_watch(engine):
    watch, keeper = restarted(engine)
    watch.alarm(Alarm.LATE_LOGS, "2 requests", 10.0)
    keeper.step()
    with transaction(engine) as connection:
        assert acknowledge(connection, Alarm.LATE_LOGS)
    keeper.step()

    assert watch.alarms() == []


def test_an_acknowledged_alarm_whose_cause_stands_is_raised_anew(engine):
    watch, keeper = restarted(engine)
    watch.alarm(Alarm.LOW_BALANCE, "3 left", 10.0)
    keeper.step()
    with transaction(engine) as connection:
        acknowledge(connection, Alarm.LOW_BALANCE)
    keeper.step()
    with capture_logs() as logs:
        watch.alarm(Alarm.LOW_BALANCE, "2 left", 20.0)
    keeper.step()

    assert stored(engine) == {Alarm.LOW_BALANCE: Raised(Alarm.LOW_BALANCE, "2 left", 20.0, 20.0, 1)}
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_an_alarm_that_was_acknowledged_before_its_end_stays_away(engine):
    watch, keeper = restarted(engine)
    watch.alarm(Alarm.LOW_BALANCE, "3 left", 10.0)
    keeper.step()
    with transaction(engine) as connection:
        acknowledge(connection, Alarm.LOW_BALANCE)
    watch.over(Alarm.LOW_BALANCE, 20.0)
    keeper.step()

    assert stored(engine) == {}
    assert watch.alarms() == []


def test_what_is_raised_while_the_keeper_writes_is_written_the_next_time():
    watch = Watch()
    watch.alarm(Alarm.LATE_LOGS, "one", 1.0)
    written = watch.pending()
    watch.alarm(Alarm.LATE_LOGS, "two", 2.0)
    watch.kept(written, written)

    assert watch.pending()[Alarm.LATE_LOGS].times == 1
    assert watch.alarms() == [Raised(Alarm.LATE_LOGS, "two", 1.0, 2.0, 2)]


def test_acknowledging_what_is_not_raised_says_so(engine):
    with transaction(engine) as connection:
        assert not acknowledge(connection, Alarm.HALTED)


def test_alarms_of_a_newer_version_are_left_alone(engine):
    watch, keeper = restarted(engine)
    with transaction(engine) as connection:
        fields = "(name, detail, first_at, last_at, times)"
        connection.exec_driver_sql(f"INSERT INTO alarms {fields} VALUES ('of_tomorrow', '', 1, 1, 1)")
    watch.alarm(Alarm.LATE_LOGS, "one", 1.0)
    keeper.step()

    with reading(engine) as connection:
        names = {row.name for row in connection.exec_driver_sql("SELECT name FROM alarms")}
    assert names == {"of_tomorrow", "late_logs"}


def test_a_database_without_the_table_is_recognised(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'old.db'}")
    with reading(engine) as connection:
        assert not has_alarms(connection)
    engine.dispose()


def test_a_database_that_fails_does_not_hide_what_ended_the_process(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")  # without tables
    watch = Watch()
    watch.alarm(Alarm.HALTED, "why", 1.0)
    with capture_logs() as logs:
        AlarmKeeper(engine, watch).last_step()
    engine.dispose()

    assert logs[-1]["event"] == "alarms are not kept"
    assert watch.alarms()[0].detail == "why"


def test_every_alarm_says_what_to_do():
    assert set(REMEDIES) == set(Alarm)


#: calls that do not fit the table of metrics
MISUSES = {
    "an unknown name": lambda watch: watch.set("unknown", 1),
    "a gauge that is counted": lambda watch: watch.count("head"),
    "a label too many": lambda watch: watch.set("head", 1, endpoint="a"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_metric_that_does_not_fit_its_table_is_a_fault(misuse):
    with pytest.raises(KeyError):
        MISUSES[misuse](Watch())


def test_counters_add_up_and_gauges_are_replaced(monkeypatch):
    monkeypatch.setitem(METRICS, "tried", Metric("counter", "Tried", ("what",)))
    watch = Watch()
    watch.count("tried", what="a")
    watch.count("tried", 2, what="a")
    watch.set("head", 7)
    watch.set("head", 8)

    assert watch.samples() == {("tried", (("what", "a"),)): 3, ("head", ()): 8}
