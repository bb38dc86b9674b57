"""What is checked in as binary is what its source says."""

import hashlib

import pytest

from bridge.demo.data import make_access_log
from bridge.demo.programs.build import ARCHITECTURES, HERE, IMAGES, WASM_PROGRAMS, WASM_TARGET, build_archive, compile_c


@pytest.mark.parametrize("name", WASM_PROGRAMS)
def test_the_module_is_built_from_its_source(name, tmp_path):
    compile_c(HERE / f"{name}.c", tmp_path / "built.wasm", WASM_TARGET)

    assert (tmp_path / "built.wasm").read_bytes() == (HERE / f"{name}.wasm").read_bytes()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("source", IMAGES, ids=lambda path: path.stem)
def test_the_image_is_built_from_its_source(source, machine, tmp_path):
    built = build_archive(source, tmp_path, machine)

    assert built.read_bytes() == (source.parent / built.name).read_bytes()


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
