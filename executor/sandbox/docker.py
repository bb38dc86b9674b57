"""Jobs in hardened containers of a Docker Engine on this machine. The only importer of the docker library.

What the engine applied is read back before a job starts, images are never pulled, every call has a deadline, and a
container is always removed. Reasons follow from the job alone; whatever is the engine's fault is SandboxUnavailable.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import urllib3.exceptions
from docker.utils import kwargs_from_env

from executor.protocol.reasons import Reason
from executor.sandbox import profile
from executor.sandbox.archive import BadArchive, check_archive
from executor.sandbox.attached import Streams
from executor.sandbox.cgroups import ControlGroups, Pressure
from executor.sandbox.container_probe import checks as probe_checks
from executor.sandbox.container_probe import probe_archive
from executor.sandbox.endings import TICK_SECONDS, Run, Watch, at_the_wall, is_gvisor, judge, listen
from executor.sandbox.engine_facts import EngineFacts, no_engine
from executor.sandbox.escapes import Danger, Found, dangers, refusal
from executor.sandbox.holder import network_namespace
from executor.sandbox.images import JOB_IMAGES, is_of_a_job, job_tag, misfit
from executor.sandbox.leftovers import Started, end_processes
from executor.sandbox.mounts import QuotaMount, may_mount, mount_quota, quota_mounts, unmount
from executor.sandbox.runtimes import found_runtimes
from executor.sandbox.staging import stage_inputs
from executor.sandbox.types import (
    Cancelled,
    Check,
    ContainerProgram,
    Execution,
    JobCancelled,
    Probe,
    RunReport,
    Runtime,
    SandboxUnavailable,
    never,
)

CALL_SECONDS: Final = 60
"""For each read of an engine's answer; creating and starting are the slow ones."""
START_SECONDS: Final = 45
"""gVisor may hang in a start for ever, on some hosts by its platform kvm."""
LOAD_SECONDS: Final = 600.0
MAX_IMAGE_BYTES: Final = 4 * 2**30
MAX_QUOTA_BYTES: Final = 2**30
"""Larger outputs do not go to memory: they are watched on the disk instead."""
JOB_OWNER: Final = 65534
LABEL: Final = "insula"
USUAL_SOCKET: Final = "unix:///var/run/docker.sock"
REMOVE_ATTEMPTS: Final = 3
KILLED: Final = 137
LATE_TRIES: Final = 30
"""At what a container was killed for: on a crowded machine the engine hears of it seconds after the end."""
PROBES: Final = 4
"""Of all limits, before one of them is given up."""

#: docker's own errors, requests' (they are OSErrors) and those that urllib3 lets through in a stream
_ENGINE_ERRORS: Final = (docker.errors.DockerException, urllib3.exceptions.HTTPError, OSError)


class _Invalid(Exception):
    """The program can run nowhere."""


class DockerSandbox:
    """Containers by one runtime of one engine.

    node: marks this node's containers; [A-Za-z0-9_.-]. runtime: `runc` or `runsc`. base_url: the engine's Unix socket,
    else DOCKER_HOST or the usual place. clock: seconds since 1970, for reports. accept_escapes: published escapes in
    spite of which the runtime is used (`escapes.names`). state: a folder for what a later start of the node must know.
    """

    def __init__(
        self,
        node: str,
        runtime: Runtime = "runc",
        base_url: str | None = None,
        clock: Callable[[], float] = time.time,
        max_image_bytes: int = MAX_IMAGE_BYTES,
        accept_escapes: Collection[str] = (),
        state: Path | None = None,
        start_seconds: int = START_SECONDS,
    ) -> None:
        self._node = node
        self._runtime = runtime
        self._base_url = base_url
        self._clock = clock
        self._max_image_bytes = max_image_bytes
        self._accepted = frozenset(accept_escapes)
        self._started = Started(state)
        self._start_seconds = start_seconds
        self._runtimes: tuple[Found, ...] | None = None

    @property
    def tier(self) -> str:
        """`container`, or `gvisor` for runsc."""
        return "gvisor" if self._runtime == "runsc" else "container"

    def probe(self, cancelled: Cancelled = never) -> Probe:
        """What the engine is, and a job against each limit; some seconds."""
        try:
            with self._engine() as api:
                facts = _facts(api)
                problem, accepted = self._problem(api, facts)
            if problem:
                return Probe(self.tier, False, facts.version, problem, (), facts.notes)
            found = probe_checks(self, self._runtime, cancelled)
            for _ in range(PROBES - 1):
                # A busy engine ends a job another way now and then; a limit that does not hold fails each time.
                before = _broken(found)
                if not before:
                    break
                found = probe_checks(self, self._runtime, cancelled)
                if _broken(found) == before:
                    break
        except SandboxUnavailable as exc:
            return Probe(self.tier, False, "", exc.text)
        broken = _broken(found)
        problem = f"these limits do not hold here: {', '.join(broken)}" if broken else ""
        names = tuple(map(str, accepted))
        return Probe(self.tier, not broken, facts.version, problem, found, facts.notes, names)

    def run(self, execution: Execution, cancelled: Cancelled) -> RunReport:
        """Run a ContainerProgram. See Sandbox.run."""
        program = execution.program
        if not isinstance(program, ContainerProgram) or program.runtime != self._runtime:
            raise SandboxUnavailable(Reason.ENGINE_MISSING, f"this sandbox runs containers by {self._runtime} only")
        with self._engine() as api:
            facts = _facts(api)
            problem, accepted = self._problem(api, facts)
            if problem:
                raise SandboxUnavailable(Reason.ENGINE_MISSING, problem)
            summary = {**facts.summary(self._runtime), **_profile()}
            summary["acceptedEscapes"] = sorted(danger.name for danger in accepted)
            started = self._clock()
            try:
                with self._image(api, program) as image:
                    inputs = stage_inputs(execution.inputs, execution.scratch / "inputs")
                    place = self._place(execution, inputs)
                    body = profile.container(program, image, execution.limits, place)
                    with self._network(api, execution, place) as change:
                        report = self._run(api, execution, program, change(body), cancelled)
                summary["outputs"] = "quota mount" if place.quota_bytes else "watched folder"
                return replace(report, runtime={**summary, **report.runtime})
            except _Invalid as exc:
                return RunReport(0, Reason.PROGRAM_INVALID, str(exc), b"", b"", started, self._clock(), summary)

    def release(self, execution: Execution) -> None:
        """Take the quota mount of the outputs away, with all that is in it."""
        if may_mount():
            unmount(execution.outputs.absolute())

    def reap(self, live: set[str]) -> list[str]:
        """Remove this node's containers, their runtimes' processes and the quota mounts of executions not in `live`.

        Where no engine answers, the mounts only: `probe` says what is wrong with the engine.
        """
        gone = set()
        with contextlib.suppress(SandboxUnavailable), self._engine() as api:
            for found in api.containers(all=True, filters={"label": f"{LABEL}.node={self._node}"}):
                execution = found["Labels"].get(f"{LABEL}.execution", "")
                if execution not in live:
                    _remove(api, found["Id"])
                    end_processes(found["Id"])
                    gone.add(execution)
            self._reap_images(api)
        for container, execution in self._started.all().items():
            if execution not in live:
                if end_processes(container):
                    gone.add(execution)
                self._started.forget(container)
        for mount in quota_mounts(self._node):
            if mount.execution not in live and unmount(mount.path):
                gone.add(mount.execution)
        return sorted(gone)

    def _reap_images(self, api: docker.APIClient) -> None:
        for marked in api.images(name=JOB_IMAGES):
            for name in marked["RepoTags"]:
                _forget_image(api, name)
        for image in self._started.images():
            found = _inspect_image(api, f"sha256:{image}")
            if found is not None and not found.get("RepoTags"):
                _forget_image(api, f"sha256:{image}")
            self._started.forget_image(image)

    @contextlib.contextmanager
    def _engine(self) -> Iterator[docker.APIClient]:
        """A connection; what goes wrong with it is the node's trouble, not the job's."""
        arguments: Any = {"base_url": self._base_url} if self._base_url else kwargs_from_env()
        address = str(arguments.get("base_url") or USUAL_SOCKET)
        if not address.startswith(("unix://", "http+unix://")):
            text = f"the Docker Engine must be on this machine: DOCKER_HOST is {address!r:.200}, not a unix:// socket"
            raise SandboxUnavailable(Reason.ENGINE_MISSING, text)
        if not Path(address.partition("://")[2]).is_socket():
            raise no_engine(f"there is no socket {address}")
        try:
            with contextlib.closing(docker.APIClient(**arguments, version="auto", timeout=CALL_SECONDS)) as api:
                yield api
        except docker.errors.APIError as exc:
            raise SandboxUnavailable(Reason.NODE_FAULT, f"the Docker Engine: {_words(exc)}") from exc
        except _ENGINE_ERRORS as exc:
            raise no_engine(str(exc)[:200]) from exc

    def _problem(self, api: docker.APIClient, facts: EngineFacts) -> tuple[str, tuple[Danger, ...]]:
        """Why this engine is not used, empty where it is; and the known escapes in spite of which it is."""
        problem = facts.problem(self._runtime)
        if problem:
            return problem, ()
        if self._runtimes is None:  # asks programs of this machine: once is enough
            self._runtimes = found_runtimes(facts.info, dict(api.version()), self._runtime)
        found = tuple(danger for runtime in self._runtimes for danger in dangers(runtime))
        return refusal(found, self._accepted), found

    # -- images

    @contextlib.contextmanager
    def _image(self, api: docker.APIClient, program: ContainerProgram) -> Iterator[str]:
        """The full id of the program's image, which the engine has then; what its archive brought goes afterwards."""
        found = self._found(api, program)
        try:
            yield str(found["Id"])
        finally:
            if is_of_a_job(found):
                _forget_image(api, f"{JOB_IMAGES}:{job_tag(found['Id'])}")

    def _found(self, api: docker.APIClient, program: ContainerProgram) -> dict[str, Any]:
        """What the engine says of the program's image. An image that another job brought is as good as not here."""
        found = _inspect_image(api, program.image)
        if program.archive is not None and (found is None or is_of_a_job(found)):
            self._check_archive(program.image, program.archive)
            if found is None:
                self._load(api, program.image, program.archive)
                found = _inspect_image(api, program.image)
        elif found is not None and is_of_a_job(found):
            found = None
        if found is None:
            text = f"image {program.image} is not here, and images are never pulled: load it, or name an archive by CID"
            raise SandboxUnavailable(Reason.IMAGE_NOT_AVAILABLE, text)
        wrong = misfit(program.image, found)
        if wrong:
            raise _Invalid(wrong)
        return found

    def _check_archive(self, image: str, path: Path) -> None:
        try:
            archive = check_archive(path, self._max_image_bytes)
        except BadArchive as exc:
            raise _Invalid(str(exc)) from exc
        if image.rpartition("@")[2] != archive.image_id:
            raise _Invalid(f"the archive holds {archive.image_id}, not {image}")

    def _load(self, api: docker.APIClient, image: str, path: Path) -> None:
        """Load it and mark it as a job's; in between, a note says whose it is after a crash."""
        image_id = image.rpartition("@")[2]
        self._started.note_image(job_tag(image_id))
        deadline = time.monotonic() + LOAD_SECONDS
        with path.open("rb") as file:
            for line in api.load_image(file, quiet=False):  # type: ignore[no-untyped-call]
                if "errorDetail" in line:
                    text = f"the engine does not load it: {str(line['errorDetail'])[:300]}"
                    raise SandboxUnavailable(Reason.IMAGE_NOT_AVAILABLE, text)
                if time.monotonic() > deadline:
                    raise SandboxUnavailable(Reason.IMAGE_NOT_AVAILABLE, "the engine takes too long to load it")
        api.tag(image_id, JOB_IMAGES, job_tag(image_id))
        self._started.forget_image(job_tag(image_id))

    def _created(self, api: docker.APIClient, program: ContainerProgram, body: dict[str, Any]) -> str:
        try:
            return _create(api, body)
        except docker.errors.ImageNotFound:  # another job that brought the same one has ended meanwhile
            self._found(api, program)
            return _create(api, body)

    # -- one run

    @contextlib.contextmanager
    def _network(
        self, api: docker.APIClient, execution: Execution, place: profile.Place
    ) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
        """How a job's body is changed for its way out; no change where it has none.

        A container of the node's own holds the namespace, so that the proxy listens in it before the job exists.
        """
        network = execution.network
        if network is None:
            yield lambda body: body
            return
        if self._runtime != "runc":
            raise SandboxUnavailable(Reason.ENGINE_MISSING, f"a job by {self._runtime} can be given no network")
        path, image = probe_archive()
        program = ContainerProgram(image, archive=path)
        with contextlib.ExitStack() as stack:
            body = profile.holder(stack.enter_context(self._image(api, program)), place)
            holder = self._created(api, program, body)
            stack.callback(_remove, api, holder)
            wrong = profile.differences(body, api.inspect_container(holder))
            if wrong:
                raise SandboxUnavailable(Reason.NODE_FAULT, f"the engine did not apply: {', '.join(wrong)[:500]}")
            try:
                self._begin(api, holder)
            except _Invalid as exc:
                raise SandboxUnavailable(Reason.NODE_FAULT, f"the holder of a network does not start: {exc}") from exc
            with network_namespace(api.inspect_container(holder)["State"]["Pid"], holder) as namespace:
                network.open(namespace)
            yield lambda body: profile.joined(body, holder, network.env)

    def _place(self, execution: Execution, inputs: Path) -> profile.Place:
        """Prepare the outputs: a mount with a quota where possible, else the folder itself, which is watched."""
        owner = os.geteuid() or JOB_OWNER
        outputs = execution.outputs.absolute()
        limits = execution.limits
        # room for what rounding to pages wastes: the limit itself is checked by size, the mount is the fence behind it
        quota = limits.disk_bytes + 4096 * limits.output_files + 2**20
        if may_mount() and quota <= MAX_QUOTA_BYTES:
            try:
                mount_quota(
                    QuotaMount(self._node, execution.execution_id, outputs), quota, limits.output_files + 16, owner
                )
            except OSError:  # a container without CAP_SYS_ADMIN
                quota = 0
        else:
            quota = 0
        if not quota and os.geteuid() == 0:
            os.chown(outputs, owner, owner)
        labels = {
            f"{LABEL}.node": self._node,
            f"{LABEL}.execution": execution.execution_id,
            f"{LABEL}.request": execution.trace.get("request_hash", ""),
        }
        secrets = os.fspath(execution.secrets.absolute()) if execution.secrets else ""
        return profile.Place(os.fspath(inputs.absolute()), os.fspath(outputs), owner, quota, labels, secrets)

    def _run(
        self,
        api: docker.APIClient,
        execution: Execution,
        program: ContainerProgram,
        body: dict[str, Any],
        cancelled: Cancelled,
    ) -> RunReport:
        container = self._created(api, program, body)
        try:
            self._started.note(container, execution.execution_id)
            inspected = api.inspect_container(container)
            wrong = profile.differences(body, inspected)
            if wrong:
                raise SandboxUnavailable(Reason.NODE_FAULT, f"the engine did not apply: {', '.join(wrong)[:500]}")
            run = Run(Streams(execution.limits.log_bytes))
            started = self._clock()
            self._attend(api, container, execution, cancelled, run)
            state = api.inspect_container(container)["State"]
            run.pressure = run.pressure.most(self._told(api, container, state))
        finally:
            _remove(api, container)
            if is_gvisor(execution):
                end_processes(container)
            self._started.forget(container)
        code, reason, detail = judge(execution, run, state)
        return RunReport(
            exit_code=code,
            reason=reason,
            detail=detail,
            stdout=bytes(run.streams.stdout),
            stderr=bytes(run.streams.stderr),
            started_at=started,
            finished_at=self._clock(),
            runtime={"applied": profile.applied(inspected)},
        )

    def _told(self, api: docker.APIClient, container: str, state: dict[str, Any]) -> Pressure:
        """What the engine was told too late to say it of the container's end: that its memory ran out."""
        tries = LATE_TRIES if state["ExitCode"] == KILLED and not state.get("OOMKilled") else 1
        filters = {"container": container, "event": "oom"}
        for number in range(tries):
            if number:
                time.sleep(TICK_SECONDS)
            span: dict[str, Any] = {"since": state["StartedAt"], "until": f"{self._clock():.9f}"}
            if any(api.events(**span, filters=filters, decode=True)):
                return Pressure(memory_kills=1)
        return Pressure()

    def _attend(
        self, api: docker.APIClient, container: str, execution: Execution, cancelled: Cancelled, run: Run
    ) -> None:
        """Start it and stay until it has ended by itself or must end; then `run.over` says why."""
        connection = api.attach_socket(container, {"stdout": 1, "stderr": 1, "stream": 1})
        # what is returned is a reader around the socket; closing it alone leaves the socket open
        connection_socket = getattr(connection, "_sock", connection)
        try:
            self._begin(api, container)
            deadline = time.monotonic() + execution.limits.wall_seconds
            groups = ControlGroups(api.inspect_container(container)["State"].get("Pid") or 0, container)
            watch = Watch(execution)
            descriptor: int | None = connection.fileno()
            while not run.over:
                why = cancelled()
                if why is not None:
                    raise JobCancelled(why)
                if time.monotonic() >= deadline:
                    run.over, run.detail = at_the_wall(execution, run)
                elif not listen(descriptor, run, deadline):
                    descriptor = None  # it closed its streams: it has ended, or it goes on in silence
                    # at once: the engine takes the control groups away when it hears of the end
                    run.pressure = run.pressure.most(groups.pressure())
                    if not api.inspect_container(container)["State"]["Running"]:
                        return
                run.pressure = run.pressure.most(groups.pressure())
                watch.step(run)
        finally:
            connection.close()
            connection_socket.close()

    def _begin(self, api: docker.APIClient, container: str) -> None:
        api.timeout = self._start_seconds
        try:
            api.start(container)
        except docker.errors.APIError as exc:
            if exc.status_code in (400, 404):  # no such executable in the image, or it may not be executed
                raise _Invalid(_words(exc)) from exc
            raise
        except OSError as exc:  # requests' timeout: the engine cannot remove it while its runtime hangs
            end_processes(container, self._programs(api))
            text = f"container {container[:12]} did not start within {self._start_seconds} s: {exc!s:.100}"
            raise SandboxUnavailable(Reason.NODE_FAULT, text) from exc
        finally:
            api.timeout = CALL_SECONDS

    def _programs(self, api: docker.APIClient) -> tuple[str, ...]:
        return (str(((api.info().get("Runtimes") or {}).get(self._runtime) or {}).get("path") or self._runtime),)


def _broken(checks: Iterable[Check]) -> list[str]:
    return [check.name for check in checks if not check.held]


def _facts(api: docker.APIClient) -> EngineFacts:
    return EngineFacts.of(api.info(), api.version())


def _profile() -> dict[str, str]:
    return {"profile": profile.PROFILE_ID, "profileSha256": profile.profile_sha256()}


def _inspect_image(api: docker.APIClient, image: str) -> dict[str, Any] | None:
    try:
        return dict(api.inspect_image(image))  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        return None


def _forget_image(api: docker.APIClient, name: str) -> None:
    """Take a name from an image, and the image where it has no other; one that a container uses goes with that one."""
    with contextlib.suppress(docker.errors.APIError):
        api.remove_image(name)


def _create(api: docker.APIClient, body: dict[str, Any]) -> str:
    try:
        answer = api.create_container_from_config(body)  # type: ignore[no-untyped-call]
    except docker.errors.APIError as exc:
        if exc.status_code == 400 and "command" in _words(exc).lower():  # neither the job nor its image names one
            raise _Invalid(_words(exc)) from exc
        raise
    return str(answer["Id"])


def _remove(api: docker.APIClient, container: str) -> None:
    """Kill and remove; a container that stays is told of, because its job may still run."""
    problem = ""
    for _ in range(REMOVE_ATTEMPTS):
        try:
            api.remove_container(container, force=True, v=True)
        except docker.errors.NotFound:
            return
        except _ENGINE_ERRORS as exc:
            problem = str(exc)[:200]
        else:
            return
    raise SandboxUnavailable(Reason.NODE_FAULT, f"container {container[:12]} cannot be removed: {problem}")


def _words(exc: docker.errors.APIError) -> str:
    return " ".join(str(exc.explanation or exc).split())[:500]
