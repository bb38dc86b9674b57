"""Who may import what, and how long a piece may be: design rules that a reader can rely on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pure_modules import PURE

ROOT = Path(__file__).resolve().parents[2]

#: library -> the only modules of ours that may import it (a folder ends in a slash)
SINGLE_IMPORTERS = {
    "web3": ["bridge/chain/transport.py"],
    "eth_account": ["bridge/chain/signer.py", "executor/protocol/signing.py"],
    "sqlalchemy": ["bridge/store/"],
    "alembic": ["bridge/store/"],
    "tenacity": ["bridge/retrying.py"],
    "ipfshttpclient": ["executor/content/kubo.py"],
    "Crypto": ["executor/sealing.py", "executor/protocol/keccak.py"],
    "docker": ["executor/sandbox/docker.py"],
    "wasmtime": ["executor/sandbox/wasm_child.py"],
    "fastapi": ["bridge/api/", "executor/agent/reviewapi.py", "executor/content/gateway.py"],
    "h11": ["executor/egress/"],
    "uvicorn": ["executor/httpserver.py"],
    "starlette": ["bridge/api/", "executor/agent/reviewapi.py", "executor/content/gateway.py"],
    "typer": ["bridge/cli/"],
    "rich": ["bridge/cli/"],
    "yaml": ["executor/protocol/dialects/yamltext.py"],
}
#: what a pure module never imports, beside the libraries above
IMPURE = {
    "asyncio", "datetime", "httpx", "logging", "os", "pathlib", "random", "requests", "secrets", "shutil", "socket",
    "sqlite3", "structlog", "subprocess", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
#: a pure module may name these for a reason
IMPURE_ALLOWED = {
    ("executor/protocol/receipt.py", "datetime"),  # it writes and reads times that it is given
    ("executor/protocol/egressrecord.py", "datetime"),  # so does this
    ("executor/content/weburl.py", "urllib"),  # it takes URLs apart (urllib.parse) and opens none
}

#: lines; how branched a function may be is ruff's C901
MAX_FILE, MAX_FUNCTION = 499, 60


def sources():
    return sorted(path for top in ("bridge", "executor") for path in (ROOT / top).rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """Full names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative imports hide the layer"
            yield node.module or ""
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def is_below(name, allowed):
    return any(name == entry or (entry.endswith("/") and name.startswith(entry)) for entry in allowed)


@pytest.mark.parametrize("library", SINGLE_IMPORTERS)
def test_a_dangerous_library_has_one_importer(library):
    importers = {name_of(p) for p in sources() if any(i.split(".")[0] == library for i in imports(p))}

    assert {name for name in importers if not is_below(name, SINGLE_IMPORTERS[library])} == set()


def test_the_executor_never_imports_the_bridge():
    guilty = {
        name_of(p)
        for p in sources()
        for i in imports(p)
        if name_of(p).startswith("executor/") and i.split(".")[0] == "bridge"
    }

    assert guilty == set()


def test_the_bridge_imports_only_protocol_content_and_errors_of_the_executor():
    allowed = ("executor.protocol", "executor.content", "executor.errors", "executor.httpserver", "executor.crowd")
    guilty = {
        (name_of(p), i)
        for p in sources()
        for i in imports(p)
        if name_of(p).startswith("bridge/")
        and not name_of(p).startswith("bridge/cli/")
        and i.split(".")[0] == "executor"
        and i != "executor"
        and not i.startswith(allowed)
    }

    assert guilty == set()


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_io_clock_or_random(module):
    banned = IMPURE | (set(SINGLE_IMPORTERS) - {"eth_account", "Crypto", "h11", "yaml"})  # those only compute
    found = {i.split(".")[0] for i in imports(ROOT / module)} & banned

    assert {name for name in found if (module, name) not in IMPURE_ALLOWED} == set()


def test_no_file_and_no_function_is_too_long_to_read_at_once():
    long = {name_of(p): lines for p in sources() if (lines := len(p.read_text().splitlines())) > MAX_FILE}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION:
                    long[f"{name_of(path)}:{node.name}"] = lines

    assert long == {}


@pytest.mark.parametrize("module", ["bridge.compose", "executor.agent.service", "bridge.cli.job_verbs"])
def test_no_library_leaves_the_limit_of_recursion_raised(module):
    """Beyond what a thread has stack for, JSON that nests deep ends the process in place of the parsing."""
    program = f"import {module}, sys; print(sys.getrecursionlimit())"

    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    assert said.stdout == "1000\n"


def test_imports_make_no_cycle():
    modules = {name_of(p).removesuffix(".py").replace("/", ".").removesuffix(".__init__"): p for p in sources()}
    graph = {}
    for name, path in modules.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):  # late imports and those for types only count as well
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    targets.add(full if full in modules else node.module)
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
        graph[name] = {t for t in targets if t in modules and t != name}
    done = set()

    def visit(name, trail):
        assert name not in trail, f"import cycle: {' -> '.join([*trail, name])}"
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, [*trail, name])
            done.add(name)

    sys.setrecursionlimit(10_000)
    for name in sorted(graph):
        visit(name, [])
