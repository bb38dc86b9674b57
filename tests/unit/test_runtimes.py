"""Which runtimes an engine has, by its own words and by the program that it would start."""

import pytest

from executor.sandbox.escapes import Found
from executor.sandbox.runtimes import found_runtimes


def version(name, number, commit=""):
    return {"Components": [{"Name": name, "Version": number, "Details": {"GitCommit": commit}}]}


def test_a_distribution_s_revision_stands_where_the_commit_would():
    found, _ = found_runtimes({}, version("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"), "runc")

    assert found == Found("runc", "1.1.5+ds1", "runc 1.1.5+ds1-1+deb12u1")


def test_a_commit_is_no_revision():
    found, _ = found_runtimes({}, version("runc", "99.1.12", "v99.1.12-0-g51d5e94"), "runc")

    assert found == Found("runc", "99.1.12")


def test_an_engine_that_names_no_component_has_one_of_no_version():
    found, containerd = found_runtimes({}, {}, "runc")

    assert (found.version, containerd.version) == ("", "")


PROGRAMS = {
    "a release": ("#!/bin/sh\necho 'runsc version release-20250319.0'\necho 'spec: 1.1.0'\n", "release-20250319.0"),
    "a distribution's": ("#!/bin/sh\necho 'runsc version 0.0~20221219.0'\n", "0.0~20221219.0"),
    "one that says nothing": ("#!/bin/sh\nexit 0\n", ""),
    "one that fails": ("#!/bin/sh\necho 'runsc version 1'\nexit 1\n", ""),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_gvisor_is_asked_itself(name, tmp_path):
    text, expected = PROGRAMS[name]
    program = tmp_path / "runsc"
    program.write_text(text)
    program.chmod(0o755)

    found, _ = found_runtimes({"Runtimes": {"runsc": {"path": str(program)}}}, {}, "runsc")

    assert found == Found("runsc", expected)


def test_a_program_that_is_not_there_has_no_version(tmp_path):
    found, _ = found_runtimes({"Runtimes": {"runsc": {"path": str(tmp_path / "none")}}}, {}, "runsc")

    assert found == Found("runsc", "")
