"""Fixtures of the sandbox tests."""

from tests.sandbox.kit import abuse_image, engine_of, hostile

__all__ = ["abuse_image", "engine_of", "hostile"]
