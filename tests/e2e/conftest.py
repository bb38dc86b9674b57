"""Fixtures of the end-to-end tests."""

import contextlib

import docker
import pytest


@pytest.fixture
def docker_containers(docker_engine):
    """A call that lists what Insula's nodes have left in the engine, running or not."""

    def containers():
        with contextlib.closing(docker.APIClient(base_url=docker_engine, version="auto", timeout=20)) as api:
            return [row["Names"] for row in api.containers(all=True, filters={"label": "insula.node"})]

    return containers
