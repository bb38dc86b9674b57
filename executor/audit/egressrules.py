"""An operator's rules on egress: which hosts jobs may reach through the node's proxy, whose jobs, and how much. Pure.

Closed by default: without a grant no job has a way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from executor.protocol.leases import Address
from executor.protocol.network import MAX_EXCHANGES, MAX_PORTS, Destination, covers, host_problem

MAX_GRANTS = 256


class EgressGrant(BaseModel):
    """A destination for the jobs that meet all that is named; an empty list names nobody in particular.

    requesters: who ordered. contracts: who is called back. images: as in the spec.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str  # api.example.org, or *.example.org for all names below it
    ports: tuple[int, ...] = Field(default=(443,), min_length=1, max_length=MAX_PORTS)
    requesters: tuple[Address, ...] = ()
    contracts: tuple[Address, ...] = ()
    images: tuple[str, ...] = ()

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        problem = host_problem(value)
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("ports")
    @classmethod
    def _ports(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= port <= 65535 for port in value):
            raise ValueError("a port is 1 to 65535")
        return value

    def is_for(self, requester: str, contract: str, image: str) -> bool:
        """Whether it holds for such a job."""
        return all(
            not named or value in named
            for named, value in ((self.requesters, requester), (self.contracts, contract), (self.images, image))
        )


class EgressRules(BaseModel):
    """See the module. Bytes count as they pass between proxy and destination, of one execution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grants: tuple[EgressGrant, ...] = Field(default=(), max_length=MAX_GRANTS)
    max_bytes_out: int = Field(default=2**20, ge=0)
    max_bytes_in: int = Field(default=64 * 2**20, ge=0)
    max_exchanges: int = Field(default=32, ge=1, le=MAX_EXCHANGES)  # refused ones among them
    exchange_seconds: int = Field(default=60, ge=1, le=3600)  # from the first byte of a request to its end
    max_connections: int = Field(default=4, ge=1, le=64)  # at the same time

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.grants)) != len(self.grants):
            raise ValueError("grants: one stands there twice")
        return self

    @property
    def needs_chain(self) -> bool:
        """Whether a grant depends on who asks, which only the chain can vouch for."""
        return any(grant.requesters or grant.contracts for grant in self.grants)

    def missing(self, wanted: Sequence[Destination], requester: str, contract: str, image: str) -> str:
        """The first destination (`host:port`) that such a job is not granted; empty where it is granted all."""
        grants = [grant for grant in self.grants if grant.is_for(requester, contract, image)]
        for one in wanted:
            for port in one.ports:
                if not any(port in grant.ports and covers(grant.host, one.host) for grant in grants):
                    return f"{one.host}:{port}"
        return ""
