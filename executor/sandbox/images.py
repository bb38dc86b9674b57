"""Which of an engine's images are a job's own: those that a job's archive brought, marked by a name of ours.

Such an image may be one requester's private input. It is for jobs that bring its archive, whose every byte is checked
against its id, and it goes when they have ended; an image without that mark is the operator's, and for every job.
"""

from __future__ import annotations

import platform
from typing import Any, Final

from executor.protocol.reasons import Reason
from executor.sandbox.types import SandboxUnavailable

JOB_IMAGES: Final = "insula-job"
"""The repository of the names that mark them; the tag is the id in hex."""


def job_tag(image_id: str) -> str:
    """The tag that marks an image by its full id."""
    return image_id.removeprefix("sha256:")


def is_of_a_job(found: dict[str, Any]) -> bool:
    """Whether nothing but a job's archive brought an image. found: the engine's answer about it."""
    marked = [str(name).startswith(f"{JOB_IMAGES}:") for name in found.get("RepoTags") or []]
    return bool(marked) and all(marked) and not found.get("RepoDigests")


def misfit(asked: str, found: dict[str, Any]) -> str:
    """Why no job may be run from this image, empty where it may. SandboxUnavailable where this node cannot."""
    if asked.startswith("sha256:") and found["Id"] != asked:
        raise SandboxUnavailable(Reason.IMAGE_NOT_AVAILABLE, f"the engine gives {found['Id']} for {asked}")
    if (found.get("Config") or {}).get("Volumes"):
        return "the image declares volumes; they would be writable and without limit"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    if found.get("Os", "linux") != "linux" or found.get("Architecture", machine) != machine:
        text = f"the image is for {found.get('Os')}/{found.get('Architecture')}; this node is linux/{machine}"
        raise SandboxUnavailable(Reason.IMAGE_NOT_AVAILABLE, text)
    return ""
