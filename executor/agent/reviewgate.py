"""Who may call a node's review API: a reviewer whom the policy names, by a signature that counts once.

Nonces are in memory. What a process has forgotten when it ends is worth nothing to whoever recorded it: every call is
signed for the `session` of one process, which the next one does not have.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from executor.audit.policy import Policy
from executor.errors import InsulaError, InvalidInput
from executor.protocol.nodeauth import MAX_SKEW_SECONDS, NONCE, check_call, declared_body, review_audience
from executor.protocol.signing import Scope

MAX_NONCES = 20_000  # that may still be replayed, of all reviewers: 160 calls a second


class Refusal(InsulaError):
    """A call that is answered with an HTTP status. name: of the problem's type, `urn:insula:problem:NAME`."""

    def __init__(self, status: int, name: str, title: str, detail: str) -> None:
        super().__init__(status, name, title, detail)
        self.status = status
        self.name = name
        self.title = title
        self.detail = detail


def reviewers(policy: Policy) -> frozenset[str]:
    """Every address that a hold under this policy may wait for."""
    rules = [policy.release, *(data.release for data in policy.data.values())]
    return frozenset(signer for rule in rules if rule is not None for signer in rule.signers)


class Gate:
    """See the module. Any number of threads; `clock` gives seconds since 1970."""

    def __init__(self, scope: Scope, node: str, allowed: Collection[str], clock: Callable[[], float]) -> None:
        session = secrets.token_hex(16)
        self.public: dict[str, Any] = {
            "key": node,
            "chainId": scope.chain_id,
            "contract": scope.contract,
            "session": session,
        }
        """What anybody may know of this node: whom to sign calls for."""
        self._audience = review_audience(scope, node, session)
        self._allowed = allowed
        self._clock = clock
        self._seen: OrderedDict[tuple[str, bytes], float] = OrderedDict()  # until when it could be replayed
        self._lock = threading.Lock()

    def admit(self, headers: Mapping[str, str], method: str, path: str) -> tuple[str, bytes]:
        """Who calls, and the SHA-256 that the body has to have. Refusal, which says nothing about what is held."""
        now = self._clock()
        try:
            declared = declared_body(headers)
            call = check_call(headers, self._audience, method=method, path=path, body_hash=declared, now=now)
        except InvalidInput as exc:
            raise Refusal(401, "not-signed", "not signed, or not for this node", str(exc)) from exc
        if call.key not in self._allowed:
            raise Refusal(403, "not-a-reviewer", "not a reviewer", f"{call.key} is no reviewer of this node")
        self.remember((call.key, call.nonce), now)
        return call.key, declared

    def remember(self, call: tuple[str, bytes], now: float) -> None:
        """Count this key's nonce. Refusal where it has counted already, or too many have."""
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now:
                self._seen.popitem(last=False)
            if call in self._seen:
                raise Refusal(401, "replayed", "replayed call", f"{NONCE}: this key has used it before; take a new one")
            if len(self._seen) >= MAX_NONCES:
                raise Refusal(429, "too-many", "too many calls", "wait two minutes, then call again")
            self._seen[call] = now + 2 * MAX_SKEW_SECONDS  # signed at most MAX_SKEW_SECONDS ahead of this clock
