"""Alarms as the database has them. A name that this version does not know is left alone."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, inspect, select, update

from bridge.store.schema import alarms
from bridge.watch import Alarm, Raised, merged


def raised_alarms(connection: Connection) -> dict[Alarm, Raised]:
    """What is raised, oldest first."""
    known = {alarm.value for alarm in Alarm}
    found = {}
    for row in connection.execute(select(alarms).order_by(alarms.c.first_at)):
        if row.name in known:
            alarm = Alarm(row.name)
            found[alarm] = Raised(alarm, row.detail, row.first_at, row.last_at, int(row.times), row.over_at)
    return found


def add_raised(connection: Connection, since: Iterable[Raised]) -> None:
    """Add what was raised since the last time. One whose cause is over, and that somebody took back, stays so."""
    before = raised_alarms(connection)
    for raised in since:
        known = before.get(raised.alarm)
        if known is None and raised.times == 0:
            continue
        now = merged(known, raised)
        fields = {
            "detail": now.detail,
            "first_at": now.first_at,
            "last_at": now.last_at,
            "times": now.times,
            "over_at": now.over_at,
        }
        if known is None:
            connection.execute(insert(alarms).values(name=now.alarm.value, **fields))
        else:
            connection.execute(update(alarms).where(alarms.c.name == now.alarm.value).values(**fields))


def acknowledge(connection: Connection, alarm: Alarm) -> bool:
    """Take an alarm back; whether it was raised."""
    return connection.execute(delete(alarms).where(alarms.c.name == alarm.value)).rowcount == 1


def has_alarms(connection: Connection) -> bool:
    """Whether the database is of a version that keeps alarms."""
    return inspect(connection).has_table(alarms.name)
