"""Counts of the kernel, and how they are kept."""

from executor.sandbox.cgroups import ControlGroups, Pressure


def test_counts_are_kept_when_the_container_s_files_are_gone():
    assert Pressure(1, 2).most(Pressure(0, 0)) == Pressure(1, 2)
    assert Pressure(1, 2).most(Pressure(3, 1)) == Pressure(3, 2)


def test_of_a_process_that_is_not_there_nothing_is_claimed():
    assert ControlGroups(0).pressure() == Pressure(0, 0)
    assert ControlGroups(2**22 + 1).pressure() == Pressure(0, 0)
