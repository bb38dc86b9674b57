"""How a chain misbehaves: every fault is off until it gets a probability. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.devnet.chaos.epochs import MAX_SHARE, WINDOW
from executor.errors import InvalidInput

P = Annotated[float, Field(ge=0, le=1)]
DialectName = Literal["node", "lotus-1.30", "lotus-null", "lotus-1.31", "lotus-1.36", "forest"]


class Settings(BaseModel):
    """Each field of type P is the probability of the fault of that name (docs/chaos.md says what each one does)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # what kind of chain
    dialect: DialectName = "node"
    deferred: bool = False  # the newest block is held back: included, not executed
    tipsets: bool = False  # headers and hashes look like a tipset's
    tags: bool = False  # safe and finalized lag behind
    safe_lag: int = Field(default=30, ge=0)  # epochs
    finalized_lag: int = Field(default=900, ge=0)
    max_range: int = Field(default=0, ge=0)  # of eth_getLogs, in epochs; 0: the dialect's
    max_logs: int = Field(default=0, ge=0)
    max_pending: int = Field(default=0, ge=0)  # messages of one sender
    lookback: int = Field(default=0, ge=0)  # epochs; 0: for ever

    # blocks
    null_rounds: float = Field(default=0, ge=0, le=MAX_SHARE)
    null_run: int = Field(default=1, ge=1, le=WINDOW // 2)  # null rounds in a row
    null_epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), max_length=10_000)  # these as well
    reorg: P = 0  # at each new block
    reorg_depth: int = Field(default=1, ge=1, le=64)  # visible blocks, at most
    reorg_drops: P = 0  # the transactions of a reorg are not offered again
    reorg_shorter: P = 0  # the new branch is a block shorter
    frozen_heads: P = 0  # the head stands still from this block on
    frozen_epochs: int = Field(default=10, ge=1)
    stale_heads: P = 0  # this answer is from a node that is behind
    stale_lag: int = Field(default=3, ge=1)
    forked_heads: P = 0  # this answer is from a node on another branch
    fork_depth: int = Field(default=2, ge=1)
    tags_regress: P = 0
    tags_unsupported: P = 0
    tags_latest: P = 0

    # logs
    drop_logs: P = 0
    truncate_logs: P = 0
    duplicate_logs: P = 0
    removed_logs: P = 0
    log_index: P = 0
    late_events: P = 0

    # receipts
    late_receipts: P = 0  # of all transactions
    late_receipt_epochs: int = Field(default=6, ge=1)
    empty_receipts: P = 0  # of all transactions; without logs for `late_receipt_epochs`
    forget_receipts: P = 0  # of all transactions; after `receipt_lookback`
    receipt_lookback: int = Field(default=20, ge=1)
    replaced_receipts: P = 0

    # sending
    drop_tx: P = 0  # of all transactions
    stuck_tx: P = 0  # of all transactions
    gas_jumps: P = 0
    gas_jump_factor: int = Field(default=5, ge=2)
    fee_noise: float = Field(default=0, ge=0, le=0.1)  # standard deviation; Lotus: 0.005

    # the way to the endpoint
    lost_requests: P = 0
    lost_responses: P = 0
    rate_limits: P = 0
    rate_limits_bare: P = 0  # without Retry-After
    server_errors: P = 0
    resets: P = 0
    hangs: P = 0
    hang_seconds: float = Field(default=60, gt=0, le=600)
    truncated_bodies: P = 0
    wrong_ids: P = 0
    mixed_errors: P = 0
    garbage_gzip: P = 0
    slow_bodies: P = 0


#: what an ordinary day on Filecoin is like
CALM: dict[str, Any] = {
    "dialect": "lotus-1.36",
    "deferred": True,
    "tipsets": True,
    "tags": True,
    "safe_lag": 5,
    "finalized_lag": 30,
    "null_rounds": 0.05,
    "fee_noise": 0.005,
}
#: everything, a bit
ROUGH: dict[str, Any] = CALM | {
    "null_rounds": 0.1,
    "reorg": 0.05,
    "reorg_depth": 2,
    "stale_heads": 0.01,
    "forked_heads": 0.005,
    "drop_logs": 0.03,
    "truncate_logs": 0.02,
    "duplicate_logs": 0.05,
    "removed_logs": 1.0,
    "log_index": 0.05,
    "late_events": 0.02,
    "late_receipts": 0.2,
    "empty_receipts": 0.05,
    "forget_receipts": 0.2,
    "drop_tx": 0.05,
    "stuck_tx": 0.05,
    "gas_jumps": 0.01,
    "lost_requests": 0.003,
    "lost_responses": 0.003,
    "rate_limits": 0.003,
    "rate_limits_bare": 0.003,
    "server_errors": 0.003,
    "resets": 0.003,
    "truncated_bodies": 0.003,
    "wrong_ids": 0.002,
    "mixed_errors": 0.002,
    "garbage_gzip": 0.002,
}
PRESETS: dict[str, dict[str, Any]] = {"off": {}, "calm": CALM, "rough": ROUGH}

#: what `--http-errors P` shares out
HTTP_ERRORS = (
    "lost_requests", "rate_limits", "rate_limits_bare", "server_errors", "resets", "truncated_bodies", "wrong_ids",
    "mixed_errors", "garbage_gzip",
)  # fmt: skip


def settings_of(preset: str, changes: dict[str, Any], unnamed: Collection[str] = ()) -> Settings:
    """A preset with changes. InvalidInput names the option; `unnamed`: fields that have none but --fault."""
    if preset not in PRESETS:
        raise InvalidInput("--chaos-preset", f"is {preset!r:.30}; it is one of {', '.join(PRESETS)}")
    try:
        return Settings.model_validate(PRESETS[preset] | changes)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = str(first["loc"][0])
        option = f"--fault {field}" if field in unnamed else "--" + field.replace("_", "-")
        if first["type"] == "extra_forbidden":
            names = ", ".join(sorted(Settings.model_fields))
            raise InvalidInput("--fault", f"there is no {field:.40}; it is one of {names}") from exc
        raise InvalidInput(option, f"is {first['input']!r:.40}: {first['msg']}") from exc
