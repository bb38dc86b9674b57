"""Fixtures of the sandbox tests."""

from tests.sandbox.kit import hostile

__all__ = ["hostile"]
