"""What the canary's job has to give, computed from its input alone. Pure.

The job is the demo's program `logstat` (bridge/demo/programs/logstat.c says what it does). Input and program are other
ones in every round, so that nothing on the way answers out of a cache.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Final

from executor.protocol.cid import Cid

LEVELS: Final = (b"DEBUG", b"INFO", b"NOTICE", b"WARNING", b"ERROR")
TOP: Final = 10
INPUT_PATH: Final = "/inputs/access.log"
_MAC: Final = re.compile(rb"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def fresh_module(module: bytes, mark: bytes) -> bytes:
    """The same program under another CID: a WebAssembly module with a custom section that holds `mark`."""
    name = b"canary"
    payload = _leb128(len(name)) + name + mark
    return module + b"\0" + _leb128(len(payload)) + payload


def _leb128(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number % 128 | 128)
        number //= 128
    return bytes([*out, number])


def spec_of(module: Cid, data: Cid, selector: str, wall_seconds: int) -> bytes:
    """The job's spec."""
    spec: dict[str, Any] = {
        "version": "insula/v1",
        "engine": {"type": "wasm", "module": str(module), "args": [INPUT_PATH]},
        "inputs": [{"cid": str(data), "path": INPUT_PATH}],
        "limits": {"wallSeconds": wall_seconds, "memoryBytes": 64 * 2**20, "cpuMillis": 250},
        **({"selector": selector} if selector else {}),
    }
    return json.dumps(spec, separators=(",", ":")).encode()


def output_of(log: bytes) -> dict[str, bytes]:
    """The files of the output for a log of lines that end in a line break and have at most 4096 bytes."""
    lines = log.splitlines()
    words = [word for line in lines for word in line.split()]
    levels = {level.decode(): words.count(level) for level in LEVELS}
    stations = Counter(word for word in words if _MAC.fullmatch(word))
    top = sorted(stations.items(), key=lambda item: (-item[1], item[0]))[:TOP]
    stdout = f"{len(lines)} lines, {len(words)} words, {len(stations)} stations, {levels['ERROR']} errors\n"
    report = [
        "{",
        f'  "bytes": {len(log)},',
        '  "levels": {',
        ",\n".join(f'    "{level}": {count}' for level, count in levels.items()),
        "  },",
        f'  "lines": {len(lines)},',
        f'  "stations": {len(stations)},',
        '  "top": [',
        ",\n".join(f'    {{"lines": {count}, "station": "{mac.decode()}"}}' for mac, count in top),
        "  ],",
        f'  "words": {len(words)}',
        "}\n",
    ]
    return {"outputs/report.json": "\n".join(report).encode(), "stdout": stdout.encode(), "stderr": b""}
