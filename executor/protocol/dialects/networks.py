"""The network of Bacalhau's jobs: HTTP to the domains that they name, as `network` of `insula/v1`. Pure.

In Bacalhau a domain with a dot before it means itself and all below it, another one itself alone; a proxy holds the job
to them. It allowed any port; here they are those of HTTP and HTTPS.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from executor.protocol.dialects.conversion import Draft
from executor.protocol.dialects.fields import Fields
from executor.protocol.network import host_problem
from executor.protocol.reasons import Reason
from executor.protocol.specparts import refuse

PORTS = (80, 443)
TYPE_WHY = "none, or HTTP to the domains"
DOMAINS_WHY = "the hosts that the job may reach, at ports 80 and 443; .example.org is example.org and all below it"
DOMAINS_REFUSED = "none for HTTP: SPEC_MISSING_FIELD; addresses, single labels, too many: SPEC_INVALID_FIELD"


def network(section: Fields, draft: Draft, none: Collection[str]) -> dict[str, Any] | None:
    """`network` of the converted spec; None where there is none. Leaves what else the section has to the caller.

    none: the dialect's words for no network of the author's. SPEC_UNSUPPORTED for another one than HTTP.
    """
    kind, domains = section.word("Type"), section.texts("Domains")
    if kind in none:
        if kind == "default":
            draft.note(section.at("Type"), "none: a network has to be asked for")
        if domains:
            draft.note(section.at("Domains"), "not used: there is no network")
        return None
    if kind != "http":
        problem = f"is {kind!r:.40}; a job has none, or HTTP to the domains that it names"
        refuse(Reason.SPEC_UNSUPPORTED, section.at("Type"), problem)
    if not domains:
        refuse(
            Reason.SPEC_MISSING_FIELD, section.at("Domains"), "names no domain; HTTP needs those that the job reaches"
        )
    draft.origins["network"] = section.at("Type")
    draft.origins["network.allow"] = section.at("Domains")
    hosts = sorted(set(_hosts(domains, section.at("Domains"))))
    return {"allow": [{"host": host, "ports": list(PORTS)} for host in hosts]}


def _hosts(domains: Iterable[str], path: str) -> Iterable[str]:
    for number, text in enumerate(domains):
        domain = text.strip(" \t\r\n")
        if domain.isascii():  # else a letter that only looks like one of a host name might become it
            domain = domain.lower()
        name = domain.removeprefix(".")
        if problem := host_problem(name) if not name.startswith("*") else "begins with *; write .example.org":
            refuse(Reason.SPEC_INVALID_FIELD, f"{path}[{number}]", f"({text!r:.60}) {problem}")
        yield name
        if domain != name:
            yield f"*.{name}"
