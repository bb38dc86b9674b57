"""Counts of the kernel, and how they are kept."""

import os

from executor.sandbox import cgroups
from executor.sandbox.cgroups import ControlGroups, Pressure

CONTAINER = "c0ffee" * 10 + "beef"


def test_counts_are_kept_when_the_container_s_files_are_gone():
    assert Pressure(1, 2).most(Pressure(0, 0)) == Pressure(1, 2)
    assert Pressure(1, 2).most(Pressure(3, 1)) == Pressure(3, 2)


def test_of_a_process_that_is_not_there_nothing_is_claimed():
    assert ControlGroups(0, CONTAINER).pressure() == Pressure(0, 0)
    assert ControlGroups(2**22 + 1, CONTAINER).pressure() == Pressure(0, 0)


def test_what_is_counted_in_groups_that_do_not_name_the_container_is_not_its_own():
    """Where a runtime ignores control groups, a container's process stands in those of others, with their kills."""
    assert cgroups._folders(os.getpid(), CONTAINER) == {}
    assert ControlGroups(os.getpid(), CONTAINER).pressure() == Pressure(0, 0)
