"""Reason codes: why an outcome is what it is. The table in docs/spec.md is the source; a test keeps the two equal."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """One number per reason, never reused.

    Below 100 succeeded, 100s refused, 200s failed, 300s withheld, 400s returned, 500s bridge.
    """

    NONE = 0
    RELEASED_IN_PART = 1
    SPEC_NOT_UTF8 = 100
    SPEC_NOT_JSON = 101
    SPEC_TOO_LARGE = 102
    SPEC_UNKNOWN_FIELD = 103
    SPEC_DUPLICATE_KEY = 104
    SPEC_MISSING_FIELD = 105
    SPEC_INVALID_FIELD = 106
    BAD_CID = 107
    UNKNOWN_ENGINE = 108
    LIMIT_OUT_OF_RANGE = 109
    UNSUPPORTED_DIALECT = 110
    SELECTOR_WITHOUT_LABEL = 111
    UNSUPPORTED_VERSION = 112
    SPEC_UNSUPPORTED = 113
    EXIT_NON_ZERO = 200
    WALL_LIMIT = 201
    MEMORY_LIMIT = 202
    CPU_LIMIT = 203
    DISK_LIMIT = 204
    FILES_LIMIT = 205
    LOG_LIMIT = 206
    PIDS_LIMIT = 207
    PAYLOAD_TOO_LARGE = 208
    TRAP = 209
    OUTPUT_UNSAFE = 210
    PROGRAM_INVALID = 211
    KILLED = 212
    RELEASE_REJECTED = 300
    AUDIT_RULE = 301
    RELEASE_TIMEOUT = 302
    INPUT_NOT_FOUND = 400
    ENGINE_MISSING = 401
    DISK_FULL = 402
    POLICY = 403
    LEASE_LOST = 404
    REQUEST_NOT_ON_CHAIN = 405
    NODE_STOPPING = 406
    PRICE_TOO_LOW = 407
    NODE_FAULT = 408
    IMAGE_NOT_AVAILABLE = 409
    ALREADY_SIGNED = 410
    INPUT_TOO_LARGE = 411
    WAITING_FOR_DEPTH = 500
    NO_NODE_MATCHES = 501
    NODES_BUSY = 502
    TOO_LATE = 503
    PRICE_BELOW_MINIMUM = 504
    NO_AGREEMENT = 505
    SPEC_UNREADABLE = 506
    ATTEMPTS_EXHAUSTED = 507
    COPIES_MISSING = 508

    @property
    def is_attestable(self) -> bool:
        """Whether a node may sign it: true for what follows from the job alone (0 to 399)."""
        return self.value < 400
