"""What the Solidity library `SpecBuilder` builds is what the strict parser reads: nothing added, nothing lost.

tests/vectors/specs.json is written by `npm run export-spec-vectors`; hardhat/test/SpecBuilder.test.ts builds it again.
"""

import json
from pathlib import Path

import pytest

from executor.protocol.spec import LIMITS, DockerEngine, JobSpec, WasmEngine, job_of
from executor.protocol.wire import Dialect, Order, label_hash

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "specs.json").read_text(encoding="utf-8"))


def engine_of(parts):
    """The engine that `parts` ask for, as a plain comparison."""
    pairs = tuple(sorted((pair["name"], pair["value"]) for pair in parts["env"]))
    return parts["module"] or parts["image"], tuple(parts["args"]), pairs


@pytest.mark.parametrize("vector", VECTORS)
def test_a_spec_built_in_solidity_is_read_as_it_was_meant(vector):
    parts, job = vector["parts"], JobSpec.parse(vector["spec"].encode())
    engine = job.engine
    if isinstance(engine, WasmEngine):
        assert engine_of(parts) == (str(engine.module), engine.args, engine.env)
    else:
        assert isinstance(engine, DockerEngine)
        assert engine_of(parts) == (engine.image, engine.args, engine.env)
        assert (engine.entrypoint or ()) == tuple(parts["entrypoint"])
        assert engine.workdir == (parts["workdir"] or "/")
        assert engine.tier == ("gvisor" if parts["gvisor"] else "container")
        assert str(engine.archive or "") == parts["archive"]
    assert [(str(item.cid), item.path) for item in job.inputs] == [(p["name"], p["value"]) for p in parts["inputs"]]


@pytest.mark.parametrize("vector", VECTORS)
def test_limits_set_in_solidity_are_the_limits_of_the_job(vector):
    limits = JobSpec.parse(vector["spec"].encode()).limits
    given = dict(zip(vector["parts"]["limits"], vector["parts"]["limitValues"], strict=True))
    read = (
        limits.wall_seconds,
        limits.cpu_millis,
        limits.memory_bytes,
        limits.disk_bytes,
        limits.output_files,
        limits.log_bytes,
        limits.pids,
    )
    assert read == tuple(given.get(i, default) for i, (default, _, _) in enumerate(LIMITS.values()))


@pytest.mark.parametrize("vector", VECTORS)
def test_labels_of_the_order_are_repeated_by_the_selector(vector):
    words = [f"{pair['name']}={pair['value']}" for pair in vector["parts"]["labels"]]
    labels = tuple(bytes.fromhex(label[2:]) for label in vector["labels"])
    assert labels == tuple(sorted(label_hash(word) for word in words))
    spec = vector["spec"].encode()
    order = Order(dialect=Dialect.INSULA_V1, spec=spec, labels=labels, ttl=3600)
    assert job_of(order, spec).selector.required_words() == tuple(sorted(words))
