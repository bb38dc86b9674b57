"""What is checked in as binary is what its source says."""

import hashlib

import pytest

from bridge.demo.data import make_access_log
from bridge.demo.programs.build import ARCHITECTURES, HERE, PROBE, WASM_PROGRAMS, WASM_TARGET, build_archive, compile_c


@pytest.mark.parametrize("name", WASM_PROGRAMS)
def test_the_module_is_built_from_its_source(name, tmp_path):
    compile_c(HERE / f"{name}.c", tmp_path / "built.wasm", WASM_TARGET)

    assert (tmp_path / "built.wasm").read_bytes() == (HERE / f"{name}.wasm").read_bytes()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_container_program_is_built_from_its_source(machine, tmp_path):
    name = f"histogram-{ARCHITECTURES[machine]}"
    compile_c(HERE / "histogram.c", tmp_path / name, f"{machine}-linux-musl")

    assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_probes_image_is_built_from_its_source(machine, tmp_path):
    built = build_archive(PROBE, tmp_path, machine)

    assert built.read_bytes() == (PROBE.parent / built.name).read_bytes()


def test_the_log_is_the_same_everywhere(tmp_path):
    size = make_access_log(tmp_path / "log", 2**16)

    assert 2**16 <= size < 2**16 + 300
    assert (
        hashlib.sha256((tmp_path / "log").read_bytes()).hexdigest()
        == "96e90da60a07de90586f4ff3ff75cc9bb2c68c9119ce6997042ca2f44559be98"
    )


def test_another_seed_gives_another_log(tmp_path):
    make_access_log(tmp_path / "a", 1000, "a")
    make_access_log(tmp_path / "b", 1000, "b")

    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()
