"""A policy told in words, and whether a job would pass it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from executor.audit.egressrules import EgressRules
from executor.audit.openings import Opening
from executor.audit.outputrules import OutputRules
from executor.audit.policy import Policy, PolicyRefused, ReleaseRules
from executor.protocol.spec import JobSpec
from executor.protocol.wire import Request

Fact = tuple[str, str]
MAX_NAMED = 20


def in_words(policy: Policy) -> Iterator[Fact]:
    """What the policy allows, a fact a line: what it is about, and what it says."""
    yield "engines", f"{_list(policy.engines)}; tiers {_list(policy.tiers)}"
    yield "requesters", _only(policy.requesters_allow) + _except(policy.requesters_deny)
    yield "callbacks", _only(policy.contracts_allow)
    yield "orders", f"curator: {_only(policy.curators_allow)}; labels: {_list(policy.labels_require) or 'none needed'}"
    yield "prices", f"at least {policy.min_unit_price} wei on success, {policy.min_fail_price} on failure"
    for token, price in policy.tokens.items():
        yield "prices", f"in {token}: at least {price.min_unit_price} on success, {price.min_fail_price} on failure"
    yield "programs", f"images: {_only(policy.images)}; modules: {_only(policy.programs)}"
    most = [f"{name} {value}" for name, value in policy.limits.model_dump().items() if value is not None]
    yield "a job", f"at most {', '.join(most)}" if most else "whatever the format allows"
    yield "inputs", f"at most {policy.max_input_bytes} bytes in all, {policy.max_each_input_bytes} each"
    yield from _outputs(policy.outputs)
    yield "release", _release(policy.release)
    for name, rules in policy.data.items():
        own = f"; release: {_release(rules.release)}" if rules.release else ""
        yield f"data {name}", f"{len(rules.cids)} CIDs and what is below them; opens to {_opening(rules)}{own}"
    for name, secret in policy.secrets.items():
        yield f"secret {name}", f"in the file {secret.file}; opens to {_opening(secret)}"
    yield from _egress(policy.egress)
    for scanner in policy.scanners:
        program = f"{scanner.module} ({scanner.program})" if scanner.module else scanner.program
        yield f"scanner {scanner.name}", f"{program} in tier {scanner.needed_tier}; on a finding: {scanner.on_finding}"
    if policy.accept_escapes:
        yield "accepted", f"known escapes of the container runtime: {_list(policy.accept_escapes)}"
    yield "chain", "must be asked who requests (rpc_url in node.toml)" if policy.needs_chain else "need not be asked"


def objections(
    policy: Policy, job: JobSpec, request: Request | None, classes: Collection[str]
) -> list[tuple[str, str]]:
    """Why this job would not run: reason and words, empty where it would.

    request: None where it is not known who asks; then only the job itself is looked at. classes: of the private data
    that it would be given.
    """
    checks: list[Callable[[], None]] = [lambda: policy.check_job(job), lambda: policy.check_exits(job, classes)]
    if request is not None:
        checks += [
            lambda: policy.check_request(request),
            lambda: policy.check_secrets(request, job),
            lambda: policy.check_data(request, job, classes),
            lambda: policy.check_network(job, request),
        ]
    found = []
    for check in checks:
        try:
            check()
        except PolicyRefused as exc:
            found.append((exc.reason.name, exc.problem))
    return found


def _egress(rules: EgressRules) -> Iterator[Fact]:
    if not rules.grants:
        yield "egress", "no job has a way out"
        return
    for grant in rules.grants:
        ports = _list(tuple(map(str, grant.ports)))
        who = (
            f"requesters: {_only(grant.requesters)}; callbacks: {_only(grant.contracts)}; images: {_only(grant.images)}"
        )
        yield "egress", f"{grant.host}, ports {ports}; {who}"
    most = f"{rules.max_bytes_out} bytes out, {rules.max_bytes_in} in, {rules.max_exchanges} requests"
    yield "egress", f"a job: at most {most} of {rules.exchange_seconds} s, {rules.max_connections} at once"


def _outputs(rules: OutputRules) -> Iterator[Fact]:
    empty = "" if rules.allow_empty else ", not empty"
    yield "outputs", f"at most {rules.max_bytes} bytes, {rules.max_files} files, {rules.max_depth} levels{empty}"
    types = _list(rules.allowed_types) or "any"
    yield "outputs", f"types: {types}{_except(rules.denied_types)}; names: any{_except(rules.denied_names)}"
    forms = _list(rules.secret_forms) or "nothing"
    yield "outputs", f"looked for: {forms}, {len(rules.denied_patterns)} patterns, the secrets that a job was given"
    archives = rules.archives
    sizes = f"at most {archives.max_bytes} bytes unpacked, {archives.max_ratio} times their size"
    members = f"{archives.max_entries} members, {archives.max_depth} deep; unreadable: {archives.unreadable}"
    yield "archives", f"{sizes}, {members}"


def _release(rules: ReleaseRules) -> str:
    if rules.mode == "automatic":
        return "by the rules alone"
    who = f"any of {_list(rules.signers)}" if rules.mode == "person" else f"{rules.threshold} of {_list(rules.signers)}"
    return f"{who}, within {rules.wait_seconds} s; an output that breaks a rule: {rules.broken_rule}"


def _opening(rules: Opening) -> str:
    if rules.is_shut:
        return "nobody: requesters, and images or programs, must be named"
    programs = [*rules.images, *rules.programs]
    contracts = f", called back at {_list(rules.contracts)}" if rules.contracts else ""
    return f"requesters {_list(rules.requesters)} with programs {_list(programs)}{contracts}"


def _only(named: Sequence[str]) -> str:
    return f"only {_list(named)}" if named else "any"


def _except(named: Sequence[str]) -> str:
    return f", never {_list(named)}" if named else ""


def _list(named: Sequence[str]) -> str:
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return ", ".join(named[:MAX_NAMED]) + more
