"""What the canary's job must give: computed here as the program computes it."""

import json
import secrets

from bridge.canary.expected import fresh_module, output_of, spec_of
from bridge.demo.data import make_access_log
from bridge.demo.programs.build import HERE
from executor.protocol.cid import RAW, Cid
from executor.protocol.spec import JobSpec

LOG = b"""t ap00 hostapd[700]: INFO wlan0: STA 02:00:00:00:00:02 IEEE 802.11: authenticated
t ap00 hostapd[700]: ERROR wlan0: STA 02:00:00:00:00:01 WPA: EAPOL-Key timeout
t ap00 hostapd[700]: INFO wlan0: STA 02:00:00:00:00:02 IEEE 802.11: associated
"""


def test_the_report_counts_lines_words_levels_and_stations():
    output = output_of(LOG)
    report = json.loads(output["outputs/report.json"])

    assert output["stdout"] == b"3 lines, 30 words, 2 stations, 1 errors\n"
    assert output["stderr"] == b""
    assert report["levels"] == {"DEBUG": 0, "INFO": 2, "NOTICE": 0, "WARNING": 0, "ERROR": 1}
    assert report["top"] == [
        {"lines": 2, "station": "02:00:00:00:00:02"},
        {"lines": 1, "station": "02:00:00:00:00:01"},
    ]
    assert (report["bytes"], report["lines"], report["stations"], report["words"]) == (len(LOG), 3, 2, 30)


def test_another_seed_gives_another_report(tmp_path):
    outputs = []
    for name in "ab":
        make_access_log(tmp_path / name, 5000, name)
        outputs.append(output_of((tmp_path / name).read_bytes())["outputs/report.json"])

    assert outputs[0] != outputs[1]


def test_a_fresh_module_is_the_program_and_a_custom_section():
    module = (HERE / "logstat.wasm").read_bytes()
    mark = secrets.token_bytes(32)

    assert fresh_module(module, mark) == module + b"\0\x27\x06canary" + mark
    assert fresh_module(b"", bytes(200)) == b"\0\xcf\x01\x06canary" + bytes(200)


def test_the_spec_is_valid_with_and_without_a_selector():
    cid = Cid.of(RAW, b"x")

    plain, chosen = (JobSpec.parse(spec_of(cid, cid, selector, 30)) for selector in ("", "site=ap"))

    assert plain.limits.wall_seconds == 30
    assert (str(plain.selector), str(chosen.selector)) == ("", "site=ap")
