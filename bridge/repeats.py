"""Failures that come again and again: told in full once, then in one line with a count, so that no log is flooded."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

_KEPT = 256  # different failures that are remembered


class Repeats:
    """Counts failures by their type and the line that raised them. Used by any thread."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, error: BaseException) -> int:
        """How many times this failure has come, this time included: 1 is the one to tell in full."""
        where = _raised_at(error)
        with self._lock:
            times = self._counts.pop(where, 0) + 1
            self._counts[where] = times
            while len(self._counts) > _KEPT:
                self._counts.popitem(last=False)
        return times


class TellOnce(logging.Filter):
    """For loggers of libraries: takes the traceback from a record whose failure has been told."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = Repeats()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, a repeated one as a single line."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        times = self._repeats.count(error)
        if times > 1:
            record.msg = f"{record.getMessage().strip()}: {type(error).__name__}: {error}; {times} times by now"
            record.args = ()
            record.exc_info = None
            record.exc_text = None
        return True


def _raised_at(error: BaseException) -> tuple[str, str, int]:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return type(error).__name__, "", 0
    return type(error).__name__, step.tb_frame.f_code.co_filename, step.tb_lineno
