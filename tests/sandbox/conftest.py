"""Fixtures of the sandbox tests."""

from tests.docker_engine import docker_engine
from tests.sandbox.kit import hostile

__all__ = ["docker_engine", "hostile"]
