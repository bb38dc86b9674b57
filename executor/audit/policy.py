"""An operator's policy: which jobs his node runs, and what may leave it. Its hash is in every receipt.

Pure. Nothing here looks at the node (disk, engines): a policy decides the same on every machine.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from executor.audit.accepted import AcceptedEscapes
from executor.audit.egressrules import EgressRules
from executor.audit.openings import CidText, ImageText, Name, Opening, SecretRules
from executor.audit.outputrules import OutputRules
from executor.audit.scannerrules import MAX_SCANNERS, Scanner, scanners_problem
from executor.errors import InsulaError, InvalidInput
from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.labels import Label
from executor.protocol.leases import Address, Amount, ByToken, TokenPrice
from executor.protocol.reasons import Reason
from executor.protocol.spec import DockerEngine, JobSpec
from executor.protocol.wire import ZERO_ADDRESS, Order, Request, label_hash

GIB = 2**30
MAX_SIGNERS = 32
_STRICTER = ("automatic", "person", "signers")

__all__ = ["DataClass", "JobLimits", "LabelWords", "OutputRules", "Policy", "PolicyRefused", "ReleaseRules"]


def _canonical(words: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(Label.parse(word)) for word in words)
    except InvalidInput as exc:
        raise ValueError(exc.problem) from exc


LabelWords = Annotated[tuple[str, ...], AfterValidator(_canonical)]
"""Labels, each as "key=value"."""


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


class DataClass(Opening):
    """Private inputs of the operator's: every job that is given any block of them must be one it opens to.

    `release`: what a job that is given them asks for at least; None: whatever the policy says for all.
    """

    cids: tuple[CidText, ...] = Field(min_length=1, max_length=4096)
    release: Annotated[ReleaseRules | None, BeforeValidator(_as_table)] = None


class Policy(BaseModel):
    """See the module. Empty lists of requesters, contracts or images allow all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engines: tuple[Literal["wasm", "docker"], ...] = ("wasm", "docker")
    tiers: tuple[Literal["wasm", "container", "gvisor"], ...] = ("wasm", "container", "gvisor")
    requesters_allow: tuple[Address, ...] = ()
    requesters_deny: tuple[Address, ...] = ()
    contracts_allow: tuple[Address, ...] = ()  # who may be called back; "no callback" is the zero address
    curators_allow: tuple[Address, ...] = ()  # whose word makes an order's labels count
    labels_require: LabelWords = Field(default=(), max_length=8)  # key=value words that an order must carry
    images: tuple[ImageText, ...] = ()  # as in the spec: sha256:... or name@sha256:...
    programs: tuple[CidText, ...] = ()  # wasm modules
    limits: JobLimits = JobLimits()
    max_input_bytes: int = Field(default=GIB, ge=0)  # program and inputs together, distinct blocks
    max_each_input_bytes: int = Field(default=GIB, ge=0)  # the program, or one input
    min_unit_price: Amount = 0
    min_fail_price: Amount = 0
    tokens: ByToken[TokenPrice] = {}  # what is asked for in other tokens than the chain's own
    outputs: OutputRules = OutputRules()
    release: Annotated[ReleaseRules, BeforeValidator(_as_table)] = ReleaseRules()
    data: dict[Name, DataClass] = {}  # classes of private inputs; what none of them lists is public
    secrets: dict[Name, SecretRules] = {}

    egress: EgressRules = EgressRules()
    scanners: tuple[Scanner, ...] = Field(default=(), max_length=MAX_SCANNERS)

    accept_escapes: AcceptedEscapes = ()  # known escapes of the container runtime to run jobs in spite of

    @model_validator(mode="before")
    @classmethod
    def _release_of_classes(cls, value: Any) -> Any:
        """A class that names a mode alone takes the signers from the policy's own [release]."""
        if not isinstance(value, dict) or not isinstance(value.get("data"), dict):
            return value
        common = _as_table(value.get("release", {}))
        shared = common if isinstance(common, dict) else {}
        return {**value, "data": {name: _with_signers(table, shared) for name, table in value["data"].items()}}

    @model_validator(mode="after")
    def _scanners(self) -> Self:
        problem = scanners_problem(self.scanners, self.release.mode)
        if problem:
            raise ValueError(problem)
        return self

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
        named = self.requesters_allow or self.requesters_deny or self.contracts_allow
        return bool(named or self.data or self.secrets or self.egress.needs_chain)

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
        self.check_requester(request.requester)
        if self.contracts_allow and order.callback not in self.contracts_allow:
            raise PolicyRefused(Reason.POLICY, f"callback contract {order.callback} is not among those allowed")
        if self.curators_allow and order.curator not in self.curators_allow:
            raise PolicyRefused(Reason.POLICY, f"curator {order.curator} is not among those allowed")
        for word in self.labels_require:
            if label_hash(word) not in order.labels:
                raise PolicyRefused(Reason.POLICY, f"the order does not carry the label {word}")
        self._check_price(order)

    def check_requester(self, requester: str) -> None:
        """Whether to run anything for this account. PolicyRefused."""
        if requester in self.requesters_deny:
            raise PolicyRefused(Reason.POLICY, f"requester {requester} is denied")
        if self.requesters_allow and requester not in self.requesters_allow:
            raise PolicyRefused(Reason.POLICY, f"requester {requester} is not among those allowed")

    def check_job(self, job: JobSpec) -> None:
        """Whether to run this job. PolicyRefused."""
        engine = job.engine
        kind = "docker" if isinstance(engine, DockerEngine) else "wasm"
        if kind not in self.engines:
            raise PolicyRefused(Reason.POLICY, f"engine {kind} is not allowed")
        if engine.tier not in self.tiers:
            raise PolicyRefused(Reason.POLICY, f"tier {engine.tier} is not allowed")
        if isinstance(engine, DockerEngine):
            if self.images and engine.image not in self.images:
                raise PolicyRefused(Reason.POLICY, f"image {engine.image} is not among those allowed")
        elif self.programs and str(engine.module) not in self.programs:
            raise PolicyRefused(Reason.POLICY, f"module {engine.module} is not among those allowed")
        for name, most in self.limits.model_dump().items():
            wanted = getattr(job.limits, name)
            if most is not None and wanted > most:
                raise PolicyRefused(Reason.POLICY, f"{name} is {wanted}; this operator allows {most}")

    def check_secrets(self, request: Request, job: JobSpec) -> None:
        """Whether every secret that the job refers to opens to it. PolicyRefused; whether it exists is not said."""
        for secret in job.secrets:
            rules = self.secrets.get(secret.name)
            if rules is None or not rules.admits(request, job):
                raise PolicyRefused(Reason.POLICY, f"the secret {secret.name} does not open to this job")

    def check_data(self, request: Request, job: JobSpec, classes: Collection[str]) -> None:
        """Whether private data of these classes, which the job would be given, opens to it. PolicyRefused."""
        for name in sorted(classes):
            if not self.data[name].admits(request, job):
                raise PolicyRefused(Reason.POLICY, "an input, or the program, is private and does not open to this job")
        self.release_of(classes)

    def check_exits(self, job: JobSpec, classes: Collection[str]) -> None:
        """Whether the job may have the network that it asks for beside what it is given. PolicyRefused.

        What goes out there is recorded, but looked through by no rule and held for no reviewer.
        """
        if not job.network:
            return
        if classes or job.secrets:
            raise PolicyRefused(Reason.POLICY, "network: a job that is given private data or secrets gets none")
        if self.release.mode != "automatic":
            raise PolicyRefused(Reason.POLICY, "network: this operator's reviewers see no bytes that leave by it")

    def release_of(self, classes: Collection[str]) -> ReleaseRules:
        """Who lets out the output of a job that was given data of these classes: the strictest rules. PolicyRefused."""
        asked = [rules for name in sorted(classes) if (rules := self.data[name].release) is not None]
        strictest = max([*asked, self.release], key=_strictness)
        if any(_strictness(one) == _strictness(strictest) and one != strictest for one in asked):
            raise PolicyRefused(Reason.POLICY, "the job's inputs are of classes that name different reviewers")
        return strictest

    def check_network(self, job: JobSpec, request: Request) -> None:
        """Whether every destination that the job asks for is granted to it. PolicyRefused."""
        if not isinstance(job.engine, DockerEngine):  # the spec format gives no other engine a network
            return
        lacking = self.egress.missing(job.network, request.requester, request.order.callback, job.engine.image)
        if lacking:
            raise PolicyRefused(Reason.POLICY, f"network: this operator does not grant {lacking} to this job")

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


def _with_signers(table: Any, common: dict[str, Any]) -> Any:
    mode = table.get("release") if isinstance(table, dict) else None
    if not isinstance(mode, str) or not common.get("signers"):
        return table
    threshold = common.get("threshold", 1) if mode == "signers" else 1
    return {**table, "release": {**common, "mode": mode, "threshold": threshold}}


def _strictness(rules: ReleaseRules) -> tuple[int, int]:
    return _STRICTER.index(rules.mode), rules.threshold
