"""An operator's policy: which jobs his node runs, and what may leave it. Its hash is in every receipt.

Pure. Nothing here looks at the node (disk, engines): a policy decides the same on every machine.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from executor.audit.accepted import AcceptedEscapes
from executor.errors import InsulaError, InvalidInput
from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.leases import Address, Amount, ByToken, TokenPrice
from executor.protocol.reasons import Reason
from executor.protocol.spec import DockerEngine, JobSpec
from executor.protocol.wire import ZERO_ADDRESS, Order, Request

GIB = 2**30
MAX_SIGNERS = 32


class PolicyRefused(InsulaError):
    """The policy does not allow this job. `reason`: POLICY, PRICE_TOO_LOW or INPUT_TOO_LARGE."""

    def __init__(self, reason: Reason, problem: str) -> None:
        super().__init__(reason, problem)
        self.reason = reason
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class JobLimits(BaseModel):
    """The most that a job may ask for; None: whatever the spec format allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_seconds: int | None = Field(default=3600, ge=1)
    cpu_millis: int | None = Field(default=None, ge=1)
    memory_bytes: int | None = Field(default=None, ge=1)
    disk_bytes: int | None = Field(default=None, ge=0)
    output_files: int | None = Field(default=None, ge=0)
    log_bytes: int | None = Field(default=None, ge=0)
    pids: int | None = Field(default=None, ge=1)


class OutputRules(BaseModel):
    """What an output may look like to leave the node. Breaking one withholds the whole output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=256 * 2**20, ge=0)  # with stdout and stderr
    max_files: int = Field(default=10_000, ge=0)  # files and directories
    max_depth: int = Field(default=32, ge=1, le=200)  # levels of directories
    max_path_bytes: int = Field(default=1024, ge=1)
    denied_names: tuple[str, ...] = Field(default=(), max_length=256)  # patterns like *.exe, for any part of a path
    allow_empty: bool = True


class ReleaseRules(BaseModel):
    """Who lets an output out of quarantine.

    automatic: the audit alone. person: the first decision of any of `signers`. signers: `threshold` approvals of
    distinct `signers`; rejected once so many are no longer possible. Nobody in time: withheld, never released.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["automatic", "person", "signers"] = "automatic"
    signers: tuple[Address, ...] = Field(default=(), max_length=MAX_SIGNERS)
    threshold: int = Field(default=1, ge=1, le=MAX_SIGNERS)
    wait_seconds: int = Field(default=1800, ge=1, le=30 * 86400)
    broken_rule: Literal["withhold", "hold"] = "withhold"  # "hold": the signers decide on a broken output rule, too

    @field_validator("signers")
    @classmethod
    def _signers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("an address is named twice; each signer counts once")
        if ZERO_ADDRESS in value:
            raise ValueError("the zero address signs nothing; name the address of a person's key")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.mode == "automatic" and (self.signers or self.threshold != 1 or self.broken_rule != "withhold"):
            raise ValueError('signers, threshold and broken_rule say nothing while mode is "automatic"; set mode')
        if self.mode != "automatic" and not self.signers:
            raise ValueError(f'signers: mode "{self.mode}" needs the address of at least one signer')
        if self.mode == "person" and self.threshold != 1:
            raise ValueError('threshold: one person decides in mode "person"; for more set mode = "signers"')
        if self.mode == "signers" and self.threshold > len(self.signers):
            raise ValueError(f"threshold: {self.threshold} of {len(self.signers)} signers can never be reached")
        return self


def _as_table(value: Any) -> Any:
    """A mode alone is a table with that mode."""
    return {"mode": value} if isinstance(value, str) else value


class Policy(BaseModel):
    """See the module. Empty lists of requesters, contracts or images allow all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engines: tuple[Literal["wasm", "docker"], ...] = ("wasm", "docker")
    tiers: tuple[Literal["wasm", "container", "gvisor"], ...] = ("wasm", "container", "gvisor")
    requesters_allow: tuple[Address, ...] = ()
    requesters_deny: tuple[Address, ...] = ()
    contracts_allow: tuple[Address, ...] = ()  # who may be called back; "no callback" is the zero address
    images: tuple[str, ...] = ()  # as in the spec: sha256:... or name@sha256:...
    limits: JobLimits = JobLimits()
    max_input_bytes: int = Field(default=GIB, ge=0)  # program and inputs together, distinct blocks
    min_unit_price: Amount = 0
    min_fail_price: Amount = 0
    tokens: ByToken[TokenPrice] = {}  # what is asked for in other tokens than the chain's own
    outputs: OutputRules = OutputRules()
    release: Annotated[ReleaseRules, BeforeValidator(_as_table)] = ReleaseRules()
    accept_escapes: AcceptedEscapes = ()  # known escapes of the container runtime to run jobs in spite of

    @classmethod
    def parse(cls, value: object, where: str = "policy") -> Self:
        """The policy of plain data. InvalidInput that names the key and what is wrong with it."""
        try:
            return cls.model_validate(value)
        except ValidationError as exc:
            first = exc.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{where}.{path}" if path else where, first["msg"]) from exc

    @property
    def needs_chain(self) -> bool:
        """Whether it decides on who asks, which only the chain can vouch for."""
        return bool(self.requesters_allow or self.requesters_deny or self.contracts_allow)

    @property
    def hash(self) -> bytes:
        """SHA-256 of its canonical JSON, 32 bytes."""
        return sha256(canonical_json(self.model_dump(mode="json")))

    def allows_tier(self, tier: str) -> bool:
        """Whether any job of this tier may run."""
        return tier in self.tiers and ("wasm" if tier == "wasm" else "docker") in self.engines

    def check_request(self, request: Request) -> None:
        """Whether to run anything for this request. PolicyRefused."""
        order = request.order
        if request.requester in self.requesters_deny:
            raise PolicyRefused(Reason.POLICY, f"requester {request.requester} is denied")
        if self.requesters_allow and request.requester not in self.requesters_allow:
            raise PolicyRefused(Reason.POLICY, f"requester {request.requester} is not among those allowed")
        if self.contracts_allow and order.callback not in self.contracts_allow:
            raise PolicyRefused(Reason.POLICY, f"callback contract {order.callback} is not among those allowed")
        self._check_price(order)

    def check_job(self, job: JobSpec) -> None:
        """Whether to run this job. PolicyRefused."""
        engine = job.engine
        kind = "docker" if isinstance(engine, DockerEngine) else "wasm"
        if kind not in self.engines:
            raise PolicyRefused(Reason.POLICY, f"engine {kind} is not allowed")
        if engine.tier not in self.tiers:
            raise PolicyRefused(Reason.POLICY, f"tier {engine.tier} is not allowed")
        if isinstance(engine, DockerEngine) and self.images and engine.image not in self.images:
            raise PolicyRefused(Reason.POLICY, f"image {engine.image} is not among those allowed")
        for name, most in self.limits.model_dump().items():
            wanted = getattr(job.limits, name)
            if most is not None and wanted > most:
                raise PolicyRefused(Reason.POLICY, f"{name} is {wanted}; this operator allows {most}")

    def _check_price(self, order: Order) -> None:
        asked: Policy | TokenPrice = self
        if order.token != ZERO_ADDRESS:
            if order.token not in self.tokens:
                if self.min_unit_price or self.min_fail_price or self.tokens:
                    raise PolicyRefused(
                        Reason.PRICE_TOO_LOW, f"token {order.token}: this operator takes no payment in it"
                    )
                return  # who asks for nothing takes anything
            asked = self.tokens[order.token]
        if order.unit_price < asked.min_unit_price:
            raise PolicyRefused(
                Reason.PRICE_TOO_LOW, f"unitPrice is {order.unit_price}; this operator asks for {asked.min_unit_price}"
            )
        if order.fail_price < asked.min_fail_price:
            raise PolicyRefused(
                Reason.PRICE_TOO_LOW, f"failPrice is {order.fail_price}; this operator asks for {asked.min_fail_price}"
            )
