"""Published escapes of container runtimes, and whether the one that was found here is mended.

Pure. A version is mended where its release branch has the fix; a distribution's package also where its very revision is
known to hold it. A revision that nobody looked at is unknown, which is no better than unmended: the tier is refused
unless the operator accepts each escape by name. Sources: the advisories of
https://github.com/opencontainers/runc/security/advisories, https://www.cve.org, and the packages' own change logs.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

UNKNOWN_VERSION: Final = "unknown-version"
"""What an operator accepts for a runtime that does not say which version it is."""
Component = Literal["runc", "runsc", "containerd"]
Version = tuple[int, int, int, int]
_FINAL: Final = 10**6  # after any release candidate
_NUMBERS: Final = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-~.]?rc\.?(\d+))?(?![\d.])")
_DATED: Final = re.compile(r"(?:\D|0\.0~|^)(20\d{6})\.(\d+)")
_REBUILT: Final = re.compile(r"\+b\d+$")  # Debian's rebuilds of unchanged sources


@dataclass(frozen=True, slots=True)
class Escape:
    """fixed: the first mended version of each release branch, oldest first; later branches are mended, earlier are not.

    since: the first version that has it; empty: all.
    """

    name: str
    component: Component
    fixed: tuple[str, ...]
    what: str
    since: str = ""


ESCAPES: Final = (
    Escape("CVE-2019-5736", "runc", ("1.0.0-rc7",), "a job overwrites the runtime by /proc/self/exe"),
    Escape("CVE-2019-16884", "runc", ("1.0.0-rc9",), "an image mounts over /proc and so evades AppArmor"),
    Escape("CVE-2019-19921", "runc", ("1.0.0-rc10",), "volumes shared by two containers mount over /proc"),
    Escape("CVE-2021-30465", "runc", ("1.0.0-rc95",), "a link exchanged during a mount leads out of the root"),
    Escape("CVE-2022-29162", "runc", ("1.1.2",), "capabilities are inherited that should not be"),
    Escape("CVE-2023-27561", "runc", ("1.1.5",), "CVE-2019-19921 again", since="1.0.0-rc95"),
    Escape("CVE-2023-28642", "runc", ("1.1.5",), "a link in place of /proc evades AppArmor and SELinux"),
    Escape(
        "CVE-2024-21626", "runc", ("1.1.12",), "a working folder in /proc/self/fd is the host's", since="1.0.0-rc93"
    ),
    Escape("CVE-2024-45310", "runc", ("1.1.14", "1.2.0-rc3"), "empty files and folders are made on the host"),
    Escape("CVE-2025-31133", "runc", ("1.2.8", "1.3.3", "1.4.0-rc3"), "a link in place of /dev/null unmasks /proc"),
    Escape("CVE-2025-52565", "runc", ("1.2.8", "1.3.3", "1.4.0-rc3"), "a link in place of /dev/pts: /dev/console"),
    Escape("CVE-2025-52881", "runc", ("1.2.8", "1.3.3", "1.4.0-rc3"), "writes to /proc are led to other files of it"),
    Escape("CVE-2018-16359", "runsc", ("20180823.0",), "files of the host are renamed"),
    Escape("CVE-2025-2713", "runsc", ("20250319.0",), "files are read before privileges are dropped"),
    Escape("CVE-2021-41103", "containerd", ("1.4.11", "1.5.7"), "others on the host execute what an image left setuid"),
)
#: distribution packages that were looked at: what they mend beside their upstream version
PACKAGES: Final[dict[str, frozenset[str]]] = {
    "runc 1.1.5+ds1-1": frozenset(),  # Debian 12
    "runc 1.1.5+ds1-1+deb12u1": frozenset({"CVE-2024-21626"}),  # Debian 12
    "runc 1.0.0~rc94+ds1-2": frozenset({"CVE-2021-30465"}),  # Debian, experimental
    "runsc 0.0~20221219.0-2": frozenset(),  # Debian 12
}
#: published, and out of a job's reach under the profile of executor/sandbox/profile.py
EXCLUDED: Final[dict[str, str]] = {
    "CVE-2018-15664": "`docker cp` is never used",
    "CVE-2019-14271": "`docker cp` is never used",
    "CVE-2020-15257": "needs the host's network",
    "CVE-2021-41091": "needs an account on the host",
    "CVE-2022-23648": "of the Kubernetes interface, which the Docker Engine does not use",
    "CVE-2023-25809": "of runtimes without root; /sys is read-only and the group namespace is a container's own",
    "CVE-2024-23651": "of BuildKit: nothing is built",
    "CVE-2024-23652": "of BuildKit: nothing is built",
    "CVE-2024-23653": "of BuildKit: nothing is built",
    "CVE-2024-25621": "needs an account on the host",
    "CVE-2024-40635": "needs a user number over 2^31; ours is fixed",
    "CVE-2026-41579": "of other engines: Docker lays a folder /dev of its own over the image's (GHSA-xjvp-4fhw-gc47)",
    "CVE-2026-96812": "needs a character device of the host; none is given",
    "CVE-2026-119101": "of checkpoint and restore, which are never used",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A runtime that is there. package: name and revision of the distribution's package, empty where there is none."""

    component: Component
    version: str
    package: str = ""

    def __str__(self) -> str:
        return f"{self.component} {self.version or '?'}" + (f" ({self.package})" if self.package else "")


@dataclass(frozen=True, slots=True)
class Danger:
    """An escape that is not known to be mended in what was found. name: its CVE, or UNKNOWN_VERSION."""

    name: str
    found: Found
    state: Literal["unfixed", "unknown"]
    what: str

    def __str__(self) -> str:
        return f"{self.name} ({self.state} in {self.found}: {self.what})"


def dangers(found: Found) -> tuple[Danger, ...]:
    """Every escape of this runtime that is not known to be mended in it."""
    version = parsed(found.version, found.component)
    if version is None:
        return (Danger(UNKNOWN_VERSION, found, "unknown", "it does not say a version that can be looked up"),)
    mended = PACKAGES.get(_REBUILT.sub("", found.package))
    state: Literal["unfixed", "unknown"] = "unknown" if found.package and mended is None else "unfixed"
    return tuple(
        Danger(escape.name, found, state, escape.what)
        for escape in ESCAPES
        if escape.component == found.component
        and _has(escape, version)
        and (mended is None or escape.name not in mended)
    )


def names() -> tuple[str, ...]:
    """All that can be accepted."""
    return (*(escape.name for escape in ESCAPES), UNKNOWN_VERSION)


def refusal(found: Collection[Danger], accepted: Collection[str]) -> str:
    """Why a tier is not offered with these dangers, and what to do; empty where all of them are accepted."""
    left = [danger for danger in found if danger.name not in accepted]
    if not left:
        return ""
    listed = ", ".join(f'"{name}"' for name in dict.fromkeys(danger.name for danger in left))
    return (
        f"not known to be mended: {'; '.join(map(str, left))}. Upgrade it; or accept the risk in policy.toml: "
        f"accept_escapes = [{listed}]"
    )


def parsed(text: str, component: Component) -> Version | None:
    """A version as numbers that compare as versions do; None where the text is none."""
    if component == "runsc":  # releases are days
        dated = _DATED.search(text)
        return (int(dated[1]), int(dated[2]), 0, _FINAL) if dated else None
    numbers = _NUMBERS.match(text.strip())
    if numbers is None:
        return None
    major, minor, patch, candidate = numbers.groups()
    return (int(major), int(minor), int(patch or 0), int(candidate) if candidate else _FINAL)


def _has(escape: Escape, version: Version) -> bool:
    if escape.since and version < _known(escape.since, escape):
        return False
    fixed = [_known(text, escape) for text in escape.fixed]
    if version >= fixed[-1]:
        return False
    return not any(version[:2] == first[:2] and version >= first for first in fixed)


def _known(text: str, escape: Escape) -> Version:
    version = parsed(text, escape.component)
    assert version is not None  # noqa: S101 - of the table above, which a test reads
    return version
