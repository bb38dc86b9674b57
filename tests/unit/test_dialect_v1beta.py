"""Specs in Bacalhau's V1beta dialect: what callers of Lilypad v0 send, as a job or as the refusal that nodes attest."""

import json
from pathlib import Path

import pytest

from executor.protocol.canonical import canonical_json, sha256
from executor.protocol.cid import RAW, Cid
from executor.protocol.conversions import conversion_report, report
from executor.protocol.dialects.quantities import byte_count, cpu_millis
from executor.protocol.dialects.report import report_hash
from executor.protocol.network import Destination
from executor.protocol.reasons import Reason
from executor.protocol.spec import LIMITS, DockerEngine, Input, InvalidSpec, JobSpec, WasmEngine, converted, job_of
from executor.protocol.wire import Dialect, Order, label_hash

MODULE = Cid.of(RAW, b"module")
TREE = Cid.parse("bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34")
KELVIN = chr(0x212A)  # a sign whose lower case is the letter k
ONE = chr(0x661)  # an Arabic digit
TREE_V0 = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
IMAGE = f"ghcr.io/a/job@sha256:{'0' * 64}"
WASM = {"EntryModule": {"StorageSource": "IPFS", "CID": str(MODULE)}}
IPFS = {"StorageSource": "IPFS", "CID": str(TREE), "path": "/inputs"}


def wasm(**changes):
    """A WASM spec; a value of ... removes the field."""
    return text({"Engine": "wasm", "Wasm": WASM, **changes})


def docker(image=IMAGE, **changes):
    """A Docker spec, as most callers write theirs; keywords with two underscores change the Docker section."""
    section = {key[2:]: changes.pop(key) for key in list(changes) if key.startswith("__")}
    return text({"Engine": "docker", "Docker": {"Image": image, **section}, **changes})


def text(fields):
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


def job(data, quorum=1):
    return converted(data, quorum)[0]


def changes(data, quorum=1):
    return {change.field: change.text for change in converted(data, quorum)[1].changes}


def refusal(data, quorum=1):
    with pytest.raises(InvalidSpec) as caught:
        converted(data, quorum)
    return caught.value.reason, caught.value.field


def engine(**fields):
    return DockerEngine(image=IMAGE, **fields)


def test_the_spec_of_most_callers_becomes_a_job():
    data = b"""{
        "Engine": "docker", "Verifier": "noop", "PublisherSpec": {"Type": "estuary"},
        "Docker": {"Image": "%b", "Entrypoint": ["python", "main.py", "--o", "./outputs", "--p", "a lily pad"]},
        "Resources": {"CPU": "1"}, "Outputs": [{"Name": "outputs", "Path": "/outputs"}], "Deal": {"Concurrency": 1}
    }""" % IMAGE.encode()

    found, conversion = converted(data)

    assert found.engine == engine(entrypoint=("python", "main.py", "--o", "./outputs", "--p", "a lily pad"))
    assert (found.inputs, str(found.selector)) == ((), "")
    assert [change.field for change in conversion.changes] == ["Docker.WorkingDirectory", "PublisherSpec.Type"]
    assert conversion.spec == {
        "version": "insula/v1",
        "engine": {
            "type": "docker",
            "image": IMAGE,
            "entrypoint": ["python", "main.py", "--o", "./outputs", "--p", "a lily pad"],
        },
        "limits": {"wallSeconds": 600, "logBytes": 2**20, "cpuMillis": 1000},
    }


def test_the_spec_that_a_client_wrote_out_in_full_becomes_a_job():
    data = b"""{
        "Engine": "Docker", "Verifier": "Noop", "Publisher": "Estuary", "PublisherSpec": {"Type": "Estuary"},
        "Docker": {"Image": "%b", "EnvironmentVariables": ["WALLET_ADDRESS=0x1234", "EMPTY=", "SUM=1+1=2"]},
        "Language": {"JobContext": {}}, "Wasm": {"EntryModule": {}}, "Resources": {"GPU": ""},
        "Network": {"Type": "None"}, "Timeout": 1800, "Annotations": ["a"], "DoNotTrack": true,
        "inputs": [{"StorageSource": "IPFS", "Name": "x", "CID": "%b", "path": "/inputs/"}],
        "outputs": [{"StorageSource": "IPFS", "Name": "outputs", "path": "/outputs"}],
        "Deal": {"Concurrency": 1}
    }""" % (IMAGE.encode(), TREE_V0.encode())

    found = job(data)

    assert found.engine == engine(env=(("EMPTY", ""), ("SUM", "1+1=2"), ("WALLET_ADDRESS", "0x1234")))
    assert found.inputs == (Input(cid=TREE, path="/inputs"),)
    assert found.limits.wall_seconds == 1800


def test_a_wasm_spec_becomes_a_job():
    section = {
        "entrymodule": {**WASM["EntryModule"], "Name": "m", "path": "/job"},
        "EntryPoint": "_start",
        "Parameters": ["--top", "10"],
        "EnvironmentVariables": {"b": "2", "B": "1"},
        "ImportModules": [],
    }

    found = job(wasm(Engine=" WASM ", Wasm=section, Inputs=[{**IPFS, "path": "/inputs/a"}]))

    assert found.engine == WasmEngine(module=MODULE, args=("--top", "10"), env=(("B", "1"), ("b", "2")))
    assert found.content == (MODULE, TREE)


def test_what_a_spec_does_not_say_has_the_limits_of_the_documentation():
    limits = vars(job(wasm()).limits)

    assert limits.pop("wall_seconds") == 600
    assert limits.pop("log_bytes") == 2**20
    assert limits == {
        "cpu_millis": LIMITS["cpuMillis"][0],
        "memory_bytes": LIMITS["memoryBytes"][0],
        "disk_bytes": LIMITS["diskBytes"][0],
        "output_files": LIMITS["outputFiles"][0],
        "pids": LIMITS["pids"][0],
    }


#: name -> a spec that says the same as the plain one
SAME = {
    "keys in lower case": wasm().replace(b"Engine", b"engine").replace(b"EntryModule", b"entrymodule"),
    "keys in upper case": wasm().replace(b"Engine", b"ENGINE").replace(b"CID", b"cid").replace(b"Wasm", b"WASM"),
    "words in another case": wasm().replace(b'"wasm"', b'"WASM"').replace(b'"IPFS"', b'" ipfs "'),
    "null where nothing is said": wasm(Network={"Type": None}, Docker=None, Deal=None, inputs=None, Timeout=None),
    "an engine that is not used, and empty": wasm(Docker={"Image": "", "Entrypoint": []}, Language={"JobContext": {}}),
    "resources that are empty": wasm(Resources={"CPU": "", "Memory": "", "Disk": "", "GPU": ""}),
    "resources of nothing": wasm(Resources={"CPU": "0", "Memory": "0", "Disk": "0 Gb", "GPU": "0"}),
    "no time": wasm(Timeout=0),
    "a job around the spec": text({"APIVersion": "V1beta1", "Spec": json.loads(wasm())}),
    "the deal that everybody makes": wasm(Deal={"Concurrency": 1, "Confidence": 0, "MinBids": 0}),
    "a deal with any node": wasm(Deal={"TargetingMode": "Any"}),
    "sharding that is empty": wasm(Sharding={"GlobPattern": "", "BatchSize": 0}, Contexts=[]),
    "an output without a source": wasm(Outputs=[{"Name": "outputs", "Path": "/outputs"}]),
    "an output": wasm(outputs=[{"StorageSource": "Estuary", "Name": "", "path": "/outputs/"}]),
    "an output as a client writes it out": wasm(outputs=[{**IPFS, "CID": "", "Metadata": {}, "path": "/outputs"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_spec_that_says_the_same_is_the_same_job(name):
    assert job(SAME[name]) == job(wasm())
    assert converted(SAME[name])[1].spec == converted(wasm())[1].spec


#: name -> (bytes of the spec, what it changes in the job of the plain spec)
LIMIT_WORDS = {
    "whole cores": ({"CPU": "2"}, {"cpu_millis": 2000}),
    "a part of a core": ({"CPU": "0.5"}, {"cpu_millis": 500}),
    "thousandths": ({"CPU": "1500m"}, {"cpu_millis": 1500}),
    "thousandths with a space": ({"cpu": "250 M"}, {"cpu_millis": 250}),
    "less than a thousandth, rounded up": ({"CPU": "1.0001"}, {"cpu_millis": 1001}),
    "fewer cores than the smallest limit": ({"CPU": "10m"}, {"cpu_millis": 100}),
    "megabytes": ({"Memory": "512Mb"}, {"memory_bytes": 512 * 2**20}),
    "mebibytes": ({"Memory": "512 MiB"}, {"memory_bytes": 512 * 2**20}),
    "a gigabyte in one letter": ({"Memory": "1g"}, {"memory_bytes": 2**30}),
    "a gibibyte in two letters": ({"MEMORY": "1Gi"}, {"memory_bytes": 2**30}),
    "half a gigabyte": ({"Memory": "0.5Gb"}, {"memory_bytes": 2**29}),
    "bytes": ({"Memory": "33554432"}, {"memory_bytes": 2**25}),
    "less memory than the smallest limit": ({"Memory": "1Mb"}, {"memory_bytes": 2**24}),
    "disk": ({"Disk": "10kb"}, {"disk_bytes": 10240}),
}


@pytest.mark.parametrize("name", LIMIT_WORDS)
def test_resources_become_limits(name):
    resources, expected = LIMIT_WORDS[name]
    plain = vars(job(wasm()).limits)

    assert vars(job(wasm(Resources=resources)).limits) == {**plain, **expected}


@pytest.mark.parametrize(("seconds", "limit"), [(1800, 1800), (1800.0, 1800), (0.2, 1), (59.5, 60), (86400, 86400)])
def test_the_timeout_becomes_the_wall_limit(seconds, limit):
    assert job(wasm(Timeout=seconds)).limits.wall_seconds == limit


@pytest.mark.parametrize(
    ("read", "word"),
    [(cpu_millis, word) for word in ("", "many", "-1", "1.", ".5", "1.5m", "1e3", "0x1", ONE, "1" * 20)]
    + [(byte_count, word) for word in ("", "lots", "-1", "1xb", "1 bb", "1e3", "1\n", ONE, "1" * 20)],
)
def test_a_word_that_is_no_amount_is_none(read, word):
    assert read(word) is None


SELECTORS = {
    "equal": ([("site", "=", ["a"])], "site=a"),
    "equal, twice": ([("site", "==", ["a"]), ("gpu", "!=", ["b"])], "site=a,gpu!=b"),
    "equal to nothing": ([("site", "=", [""])], "site="),
    "one of": ([("site", "in", ["b", "a"])], "site in (a,b)"),
    "none of": ([("site", "NotIn", ["a"])], "site notin (a)"),
    "there": ([("site", "exists", [])], "site"),
    "not there": ([("site", "!", None)], "!site"),
    "between": ([("ram", "gt", ["3"]), ("ram", "lt", ["9"])], "ram>3,ram<9"),
    "a key that is an operator": ([("in", "in", ["in"])], "in in (in)"),
}


@pytest.mark.parametrize("name", SELECTORS)
def test_node_selectors_become_a_selector(name):
    rows, expected = SELECTORS[name]
    items = [{"Key": key, "Operator": operator, "Values": values} for key, operator, values in rows]

    assert str(job(wasm(NodeSelectors=items)).selector) == expected


def test_content_at_a_gateway_is_read_by_its_cid_and_keeps_its_name():
    url = f"https://gateway.example/ipfs/{TREE_V0}"
    item = {"StorageSource": "urlDownload", "Name": url, "URL": url, "Path": "/inputs"}

    assert job(wasm(inputs=[item])).inputs == (Input(cid=TREE, path=f"/inputs/{TREE_V0}"),)
    assert changes(wasm(inputs=[item])) == {
        "inputs[0].URL": f"read by CID, as {TREE_V0}; CIDv0 read as {TREE}",
    }


def test_an_http_network_reaches_the_domains_that_it_names():
    found = job(docker(Network={"Type": "HTTP", "Domains": [".b.example", "a.example"]}))

    hosts = ("*.b.example", "a.example", "b.example")
    assert found.network == tuple(Destination(host=host, ports=(80, 443)) for host in hosts)


#: name -> (spec, what the conversion says that it changed)
NOTES = {
    "nothing": (wasm(), {}),
    "a dead publisher": (wasm(Publisher="Estuary"), {"Publisher": "the bridge keeps the output"}),
    "a publisher that is a chain": (wasm(publisherspec={"type": "filecoin"}),
                                    {"publisherspec.type": "the bridge keeps the output"}),
    "several copies": (wasm(Deal={"Concurrency": 3}),
                       {"Deal.Concurrency": "not used: the order says how many nodes run it"}),
    "domains without a network": (wasm(Network={"Type": "None", "Domains": ["a.example"]}),
                                  {"Network.Domains": "not used: there is no network"}),
    "the name of an output": (wasm(Outputs=[{"Name": "images", "Path": "/outputs"}]),
                              {"Outputs[0].Name": "not used: the output's folder is outputs"}),
    "a part of the outputs": (wasm(outputs=[{"StorageSource": "Estuary", "Name": "", "path": "/outputs/a/"}]),
                              {"outputs[0].path": "all of /outputs is the output"}),
    "a small limit": (wasm(Resources={"CPU": "1m"}), {"Resources.CPU": "raised to the smallest limit, 100"}),
    "a part of a second": (wasm(Timeout=1.5), {"Timeout": "rounded up to 2"}),
    "a CIDv0": (wasm(Inputs=[{**IPFS, "CID": TREE_V0}]), {"Inputs[0].CID": f"CIDv0 read as {TREE}"}),
    "a module as a CIDv0": (wasm(Wasm={"EntryModule": {"StorageSource": "ipfs", "CID": TREE_V0}}),
                            {"Wasm.EntryModule.CID": f"CIDv0 read as {TREE}"}),
    "a job's metadata": (text({"Spec": json.loads(wasm()), "Metadata": {"ID": "x"}}), {"Metadata": "not used"}),
    "a working directory that the image sets": (docker(), {"Docker.WorkingDirectory": "/, whatever the image says"}),
    "a working directory": (docker(__WorkingDirectory="/app"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTES)
def test_the_conversion_says_what_it_changed(name):
    data, expected = NOTES[name]

    assert changes(data) == expected


def test_the_report_of_a_conversion_pins_what_was_run():
    data = docker(Publisher="Estuary", __WorkingDirectory="/app", __Parameters=["é"])
    conversion = converted(data)[1]

    said = conversion_report(order(data), data)

    assert JobSpec.parse(canonical_json(conversion.spec)) == job(data)
    assert said == {
        "format": "insula-conversion/2",
        "dialect": 2,
        "specSha256": sha256(canonical_json(conversion.spec)).hex(),
        "changes": [{"field": "Publisher", "text": "the bridge keeps the output"}],
        "reportSha256": report_hash(report(data, 1, Dialect.BACALHAU_V1BETA)).hex(),
    }


def test_a_field_that_nobody_wrote_keeps_its_path():
    conversion = converted(wasm())[1]

    assert conversion.origin("limits.pids") == "limits.pids"
    assert conversion.origin("engine.modules") == "Wasm.modules"


def test_a_verifier_is_as_good_as_the_orders_quorum():
    asks_two = wasm(Verifier="Deterministic", Deal={"Concurrency": 3})
    asks_three = wasm(Verifier="Deterministic", Deal={"Concurrency": 3, "Confidence": 3})

    assert job(asks_two, quorum=2) == job(wasm())
    assert refusal(asks_two, quorum=1) == (Reason.SPEC_UNSUPPORTED, "Verifier")
    assert refusal(asks_three, quorum=2) == (Reason.SPEC_UNSUPPORTED, "Verifier")


def spliced(prompt):
    """How a contract pastes its user's words into its spec."""
    start = b'{"Engine": "docker", "Docker": {"Image": "x", "Entrypoint": ["python", "main.py", "--p", "'
    return start + prompt + b'"]}, "Resources": {"CPU": "1"}, "Deal": {"Concurrency": 1}}'


def put(**fields):
    return wasm(inputs=[{**IPFS, **fields}])


def module(**fields):
    return wasm(Wasm={"EntryModule": {**WASM["EntryModule"], **fields}})


def selects(**fields):
    return wasm(NodeSelectors=[{"Key": "a", "Operator": "=", "Values": ["b"], **fields}])


R = Reason
#: name -> (bytes of the spec, reason, field)
REFUSED = {
    # bytes that are no spec
    "nothing": (b"", R.SPEC_NOT_JSON, "spec"),
    "an address in the text, as raw bytes": (spliced(bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")),
                                             R.SPEC_NOT_UTF8, "spec"),
    "raw bytes that are UTF-8 by chance": (spliced(b"\x00" * 20), R.SPEC_NOT_JSON, "spec"),
    "a quote too many": (spliced(b'"Hello, Docker!'), R.SPEC_NOT_JSON, "spec"),
    "a bracket too many": (b'{"Docker": {"EnvironmentVariables": ["A=1"]]}}', R.SPEC_NOT_JSON, "spec"),
    "a brace that is missing": (b'{"Engine": "docker", "Docker": {"Image": "x", "Deal": {"Concurrency": 1}',
                                R.SPEC_NOT_JSON, "spec"),
    "an image without quotes": (b'{"Engine": "docker", "Docker": {"Image": a/b:1}}', R.SPEC_NOT_JSON, "spec"),
    "a spec in quotes": (b'"{\\"Engine\\": \\"docker\\"}prompt"', R.SPEC_NOT_JSON, "spec"),
    "two specs": (wasm() + wasm(), R.SPEC_NOT_JSON, "spec"),
    "a line break in a prompt": (spliced(b"a\nb"), R.SPEC_NOT_JSON, "spec"),
    "a list": (b"[]", R.SPEC_NOT_JSON, "spec"),
    "half a surrogate": (spliced(b"\\ud800"), R.SPEC_NOT_JSON, "spec"),
    "nested a hundred deep": (b'{"Wasm":' * 100, R.SPEC_TOO_LARGE, "spec"),
    "too large": (wasm() + b" " * 2**18, R.SPEC_TOO_LARGE, "spec"),
    # fields that stand twice, and fields that nobody knows
    "an image put in a second time": (spliced(b'x"], "Image": "evil", "Parameters": ["'), R.SPEC_DUPLICATE_KEY,
                                      "Image"),
    "an image put in in another case": (spliced(b'x"], "image": "evil", "Parameters": ["'), R.SPEC_DUPLICATE_KEY,
                                        "Docker.image"),
    "a section put in in another case": (spliced(b'x"]}, "DOCKER": {"Image": "evil", "Entrypoint": ["'),
                                         R.SPEC_DUPLICATE_KEY, "DOCKER"),
    "a key in escapes": (spliced(b'x"], "\\u0049mage": "evil", "Parameters": ["'), R.SPEC_DUPLICATE_KEY, "Image"),
    "two cases of the inputs": (wasm(inputs=[], Inputs=[]), R.SPEC_DUPLICATE_KEY, "Inputs"),
    "one of them null": (wasm(inputs=None, INPUTS=[]), R.SPEC_DUPLICATE_KEY, "INPUTS"),
    "a variable that is set twice": (docker(__EnvironmentVariables=["A=1", "B=", "A=2"]), R.SPEC_DUPLICATE_KEY,
                                     "Docker.EnvironmentVariables[2]"),
    "a key that nobody knows": (wasm(Privileged=True), R.SPEC_UNKNOWN_FIELD, "Privileged"),
    "a key with a sign that folds to a letter": (wasm(**{f"Networ{KELVIN}": {}}), R.SPEC_UNKNOWN_FIELD,
                                                 f"Networ{KELVIN}"),
    "a key of another dialect": (wasm(Tasks=[]), R.SPEC_UNKNOWN_FIELD, "Tasks"),
    "a key that nobody knows, in a section": (docker(__Privileged=True), R.SPEC_UNKNOWN_FIELD, "Docker.Privileged"),
    "a key that nobody knows, in an input": (put(Mode="rw"), R.SPEC_UNKNOWN_FIELD, "inputs[0].Mode"),
    "a key that nobody knows, in an output": (wasm(outputs=[{"path": "/outputs", "x": 1}]), R.SPEC_UNKNOWN_FIELD,
                                              "outputs[0].x"),
    "a key that nobody knows, in the module": (module(x=1), R.SPEC_UNKNOWN_FIELD, "Wasm.EntryModule.x"),
    "a key that nobody knows, in the resources": (wasm(Resources={"TPU": "1"}), R.SPEC_UNKNOWN_FIELD, "Resources.TPU"),
    "a key that nobody knows, in the network": (wasm(Network={"Ports": []}), R.SPEC_UNKNOWN_FIELD, "Network.Ports"),
    "a key that nobody knows, in the deal": (wasm(Deal={"Price": 1}), R.SPEC_UNKNOWN_FIELD, "Deal.Price"),
    "a key that nobody knows, of a publisher": (wasm(PublisherSpec={"X": 1}), R.SPEC_UNKNOWN_FIELD, "PublisherSpec.X"),
    "a key that nobody knows, in a selector": (selects(x=1), R.SPEC_UNKNOWN_FIELD, "NodeSelectors[0].x"),
    "a key that nobody knows, around the spec": (text({"Spec": {}, "Wasm": WASM}), R.SPEC_UNKNOWN_FIELD, "Wasm"),
    # fields that are missing
    "no engine": (wasm(Engine=...), R.SPEC_MISSING_FIELD, "Engine"),
    "an engine that is empty": (wasm(Engine=" "), R.SPEC_MISSING_FIELD, "Engine"),
    "no image": (docker(image=""), R.SPEC_MISSING_FIELD, "Docker.Image"),
    "no module": (wasm(Wasm={"EntryModule": None}), R.SPEC_MISSING_FIELD, "Wasm.EntryModule"),
    "a module that is empty": (wasm(Wasm={"EntryModule": {}}), R.SPEC_MISSING_FIELD, "Wasm.EntryModule.StorageSource"),
    "a module without a CID": (module(CID=""), R.SPEC_MISSING_FIELD, "Wasm.EntryModule.CID"),
    "an input without a source": (put(StorageSource=""), R.SPEC_MISSING_FIELD, "inputs[0].StorageSource"),
    "an input without a path": (put(path=""), R.SPEC_MISSING_FIELD, "inputs[0].path"),
    "an output without a path": (wasm(Outputs=[{"Name": "outputs"}]), R.SPEC_MISSING_FIELD, "Outputs[0].path"),
    "a URL that is missing": (put(StorageSource="URLDownload"), R.SPEC_MISSING_FIELD, "inputs[0].URL"),
    # what no node offers
    "an engine that does not exist": (wasm(Engine="shell"), R.UNKNOWN_ENGINE, "Engine"),
    "the engine noop": (wasm(Engine="noop"), R.UNKNOWN_ENGINE, "Engine"),
    "the engine language": (wasm(Engine="Language", Wasm=..., Language={"Language": "python"}), R.UNKNOWN_ENGINE,
                            "Engine"),
    "a GPU": (wasm(Resources={"GPU": "1"}), R.SPEC_UNSUPPORTED, "Resources.GPU"),
    "GPUs in words": (wasm(Resources={"GPU": "all"}), R.SPEC_UNSUPPORTED, "Resources.GPU"),
    "a network by HTTP for a module": (wasm(Network={"Type": "HTTP", "Domains": ["a.example"]}), R.SPEC_UNSUPPORTED,
                                       "Network.Type"),
    "HTTP to nowhere": (wasm(Network={"Type": "HTTP"}), R.SPEC_MISSING_FIELD, "Network.Domains"),
    "HTTP to a letter that becomes another": (wasm(Network={"Type": "HTTP", "Domains": ["\u212aelvin.example"]}),
                                              R.SPEC_INVALID_FIELD, "Network.Domains[0]"),
    "HTTP to an address": (wasm(Network={"Type": "HTTP", "Domains": ["192.0.2.1"]}), R.SPEC_INVALID_FIELD,
                           "Network.Domains[0]"),
    "a word of later jobs": (wasm(Network={"Type": "Default"}), R.SPEC_UNSUPPORTED, "Network.Type"),
    "a full network": (wasm(network={"type": "Full"}), R.SPEC_UNSUPPORTED, "network.type"),
    "content at a URL": (put(StorageSource="URLDownload", CID="", URL="https://a.example/x.py"), R.SPEC_UNSUPPORTED,
                         "inputs[0].URL"),
    "a path below a CID": (put(StorageSource="URLDownload", CID="", URL=f"https://a.example/ipfs/{TREE}/x"),
                           R.SPEC_UNSUPPORTED, "inputs[0].URL"),
    "a repository": (put(StorageSource="RepoCloneLFS", Repo="https://a.example/x.git"), R.SPEC_UNSUPPORTED,
                     "inputs[0].StorageSource"),
    "a folder of the node": (put(StorageSource="LocalDirectory", SourcePath="/etc"), R.SPEC_UNSUPPORTED,
                             "inputs[0].StorageSource"),
    "a folder of the node beside a CID": (put(SourcePath="/etc"), R.SPEC_UNSUPPORTED, "inputs[0].SourcePath"),
    "an input to write to": (put(ReadWrite=True), R.SPEC_UNSUPPORTED, "inputs[0].ReadWrite"),
    "a bucket": (wasm(PublisherSpec={"Type": "S3"}), R.SPEC_UNSUPPORTED, "PublisherSpec.Type"),
    "parameters of a publisher": (wasm(PublisherSpec={"Type": "ipfs", "Params": {"a": 1}}), R.SPEC_UNSUPPORTED,
                                  "PublisherSpec.Params"),
    "a publisher that does not exist": (wasm(Publisher="pigeon"), R.SPEC_UNSUPPORTED, "Publisher"),
    "an output in a bucket": (wasm(outputs=[{"StorageSource": "S3", "path": "/outputs"}]), R.SPEC_UNSUPPORTED,
                              "outputs[0].StorageSource"),
    "an output elsewhere": (wasm(outputs=[{"path": "/output"}]), R.SPEC_UNSUPPORTED, "outputs[0].path"),
    "an output that is elsewhere after all": (wasm(outputs=[{"path": "/outputs/../etc"}]), R.SPEC_UNSUPPORTED,
                                             "outputs[0].path"),
    "another function than _start": (wasm(Wasm={**WASM, "EntryPoint": "main"}), R.SPEC_UNSUPPORTED, "Wasm.EntryPoint"),
    "modules to link": (wasm(Wasm={**WASM, "ImportModules": [WASM["EntryModule"]]}), R.SPEC_UNSUPPORTED,
                        "Wasm.ImportModules"),
    "shards": (wasm(Sharding={"GlobPattern": "/*"}), R.SPEC_UNSUPPORTED, "Sharding"),
    "contexts": (wasm(Contexts=[IPFS]), R.SPEC_UNSUPPORTED, "Contexts"),
    "a verifier outside": (wasm(Verifier="external"), R.SPEC_UNSUPPORTED, "Verifier"),
    "every node": (wasm(Deal={"TargetingMode": "all"}), R.SPEC_UNSUPPORTED, "Deal.TargetingMode"),
    # values of the wrong form
    "an image by tag": (docker(image="a/b:latest"), R.SPEC_INVALID_FIELD, "Docker.Image"),
    "an image in a spec with another case": (text({"engine": "docker", "docker": {"image": "a/b:1"}}),
                                             R.SPEC_INVALID_FIELD, "docker.image"),
    "an engine that is a number": (wasm(Engine=2), R.SPEC_INVALID_FIELD, "Engine"),
    "an engine with a NUL": (wasm(Engine="wasm\0"), R.SPEC_INVALID_FIELD, "Engine"),
    "another engine beside": (docker(Wasm=WASM), R.SPEC_INVALID_FIELD, "Wasm"),
    "a program in a language beside": (docker(Language={"Command": "print(1)"}), R.SPEC_INVALID_FIELD, "Language"),
    "a section that is a list": (docker(Docker=[]), R.SPEC_INVALID_FIELD, "Docker"),
    "an entrypoint that is a string": (docker(__Entrypoint="python a.py"), R.SPEC_INVALID_FIELD, "Docker.Entrypoint"),
    "an argument that is a number": (docker(__Entrypoint=["a", 1]), R.SPEC_INVALID_FIELD, "Docker.Entrypoint[1]"),
    "an argument that is too long": (docker(__Parameters=["a" * 4097]), R.SPEC_INVALID_FIELD, "Docker.Parameters[0]"),
    "too many arguments": (docker(__Parameters=["a"] * 65), R.SPEC_INVALID_FIELD, "Docker.Parameters"),
    "a variable without a value": (docker(__EnvironmentVariables=["PATH"]), R.SPEC_INVALID_FIELD,
                                   "Docker.EnvironmentVariables[0]"),
    "a variable that is no name": (docker(__EnvironmentVariables=["A-B=1"]), R.SPEC_INVALID_FIELD,
                                   "Docker.EnvironmentVariables.A-B"),
    "variables of a module as a list": (wasm(Wasm={**WASM, "EnvironmentVariables": ["A=1"]}), R.SPEC_INVALID_FIELD,
                                        "Wasm.EnvironmentVariables"),
    "a working directory that goes up": (docker(__WorkingDirectory="/a/.."), R.SPEC_INVALID_FIELD,
                                         "Docker.WorkingDirectory"),
    "an input that is a string": (wasm(inputs=["a"]), R.SPEC_INVALID_FIELD, "inputs[0]"),
    "an input elsewhere": (put(path="/app/data"), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "two inputs at one path": (wasm(inputs=[IPFS, IPFS]), R.SPEC_INVALID_FIELD, "inputs[0].path"),
    "too many inputs": (wasm(Inputs=[{**IPFS, "path": f"/inputs/{n}"} for n in range(17)]), R.SPEC_INVALID_FIELD,
                        "Inputs"),
    "a URL beside a CID": (put(URL="https://a.example"), R.SPEC_INVALID_FIELD, "inputs[0].URL"),
    "a CID beside a URL": (put(StorageSource="URLDownload", URL=f"https://a.example/ipfs/{TREE}"), R.SPEC_INVALID_FIELD,
                           "inputs[0].CID"),
    "an output of a CID": (wasm(outputs=[{"path": "/outputs", "CID": str(TREE)}]), R.SPEC_INVALID_FIELD,
                           "outputs[0].CID"),
    "resources that are numbers": (wasm(Resources={"CPU": 1}), R.SPEC_INVALID_FIELD, "Resources.CPU"),
    "resources in words": (wasm(Resources={"Memory": "lots"}), R.SPEC_INVALID_FIELD, "Resources.Memory"),
    "a timeout in quotes": (wasm(Timeout="1800"), R.SPEC_INVALID_FIELD, "Timeout"),
    "a timeout that is true": (wasm(Timeout=True), R.SPEC_INVALID_FIELD, "Timeout"),
    "a number of copies in quotes": (wasm(Deal={"Concurrency": "1"}), R.SPEC_INVALID_FIELD, "Deal.Concurrency"),
    "fewer than no copies": (wasm(Deal={"Concurrency": -1}), R.SPEC_INVALID_FIELD, "Deal.Concurrency"),
    "another version": (text({"APIVersion": "V2", "Spec": json.loads(wasm())}), R.SPEC_INVALID_FIELD, "APIVersion"),
    "a field of a spec in a job": (text({"Spec": json.loads(docker(image="a:1"))}), R.SPEC_INVALID_FIELD,
                                   "Spec.Docker.Image"),
    "a selector's key in upper case": (selects(Key="Architecture"), R.SPEC_INVALID_FIELD, "NodeSelectors[0].Key"),
    "a selector with a requirement in its value": (selects(Values=["b,c=d"]), R.SPEC_INVALID_FIELD,
                                                   "NodeSelectors[0].Values"),
    "a selector with an operator that nobody knows": (selects(Operator="~"), R.SPEC_INVALID_FIELD,
                                                      "NodeSelectors[0].Operator"),
    "a selector with too few values": (selects(Values=[]), R.SPEC_INVALID_FIELD, "NodeSelectors[0].Values"),
    "a selector with too many values": (selects(Values=["a", "b"]), R.SPEC_INVALID_FIELD, "NodeSelectors[0].Values"),
    "a selector that compares words": (selects(Operator="gt"), R.SPEC_INVALID_FIELD, "NodeSelectors"),
    "too many selectors": (wasm(NodeSelectors=[{"Key": "a", "Operator": "exists"}] * 65), R.SPEC_INVALID_FIELD,
                           "NodeSelectors"),
    # CIDs and limits
    "a module that is a path": (module(CID="../../etc/passwd"), R.BAD_CID, "Wasm.EntryModule.CID"),
    "a CID that is none": (put(CID="bafy"), R.BAD_CID, "inputs[0].CID"),
    "a CID with a path": (put(CID=f"{TREE}/a"), R.BAD_CID, "inputs[0].CID"),
    "a CIDv0 that is no sha2-256": (put(CID="Qm" + "z" * 44), R.BAD_CID, "inputs[0].CID"),
    "a URL with a CID that is none": (put(StorageSource="URLDownload", CID="", URL="https://a.example/ipfs/x"),
                                      R.BAD_CID, "inputs[0].URL"),
    "too much memory": (wasm(Resources={"Memory": "1Tb"}), R.LIMIT_OUT_OF_RANGE, "Resources.Memory"),
    "too many cores": (wasm(Resources={"CPU": "65"}), R.LIMIT_OUT_OF_RANGE, "Resources.CPU"),
    "too much time": (wasm(Timeout=86401), R.LIMIT_OUT_OF_RANGE, "Timeout"),
    "time without end": (wasm()[:-1] + b', "Timeout": 1e999}', R.LIMIT_OUT_OF_RANGE, "Timeout"),
    "time before the start": (wasm(Timeout=-1), R.LIMIT_OUT_OF_RANGE, "Timeout"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_with_reason_and_the_authors_own_path(name):
    data, reason, field = REFUSED[name]

    assert refusal(data) == (reason, field)
    assert reason.is_attestable


def order(data, **changes):
    return Order(**{"spec": data, "ttl": 60, "dialect": int(Dialect.BACALHAU_V1BETA), **changes})


def test_an_order_says_the_dialect_of_its_spec():
    assert job_of(order(wasm()), wasm()) == job(wasm())
    with pytest.raises(InvalidSpec) as caught:
        job_of(order(wasm(), dialect=int(Dialect.INSULA_V1)), wasm())
    assert caught.value.reason is Reason.SPEC_MISSING_FIELD


def test_the_orders_quorum_is_what_a_verifier_is_held_to():
    data = wasm(Verifier="deterministic", Deal={"Confidence": 2})

    assert job_of(order(data, nodes=3, quorum=2), data) == job(wasm())
    with pytest.raises(InvalidSpec):
        job_of(order(data), data)


def test_a_caller_of_lilypad_need_not_know_the_orders_labels():
    assert job_of(order(wasm(), labels=(label_hash("site=camera"),)), wasm()) == job(wasm())


def test_every_reason_of_a_refusal_stands_in_the_table_of_the_documentation():
    page = (Path(__file__).resolve().parents[2] / "docs" / "spec.md").read_text()
    part = page.split("### Specs of other systems", 1)[1].split("### Bacalhau 1.x", 1)[0]

    for reason in {reason for _, reason, _ in REFUSED.values()}:
        assert reason.name in part, reason
