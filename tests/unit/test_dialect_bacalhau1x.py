"""Job files of Bacalhau 1.x, in YAML and JSON: a job, or the refusal that nodes attest."""

import json
from pathlib import Path

import pytest

from executor.protocol.cid import RAW, Cid
from executor.protocol.dialects.yamltext import parse_yaml
from executor.protocol.network import Destination
from executor.protocol.reasons import Reason
from executor.protocol.spec import DockerEngine, Input, InvalidSpec, WasmEngine, converted, job_of
from executor.protocol.wire import Dialect, Order, label_hash

MODULE = Cid.of(RAW, b"module")
TREE = Cid.parse("bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34")
TREE_V0 = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
IMAGE = f"ghcr.io/a/job@sha256:{'0' * 64}"
INPUT = {"Target": "/inputs", "Source": {"Type": "ipfs", "Params": {"CID": str(TREE)}}}
PROGRAM = {"Alias": "main", "Target": "/app/main.wasm", "Source": {"Type": "ipfs", "Params": {"CID": str(MODULE)}}}
WASM = {"EntryModule": {"Source": {"Type": "ipfs", "Params": {"CID": str(MODULE)}}}}


def file(engine, task=None, **job):
    """A job file in JSON; a value of ... removes the field."""
    engine, params = engine
    whole = {"Name": "main", "Engine": {"Type": engine, "Params": params}, **(task or {})}
    fields = {"Type": "batch", "Count": 1, "Tasks": [{k: v for k, v in whole.items() if v is not ...}], **job}
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


def wasm(task=None, **job):
    return file(("wasm", WASM), task, **job)


def docker(**params):
    return file(("docker", {"Image": IMAGE, **params}))


def reaching(domains):
    """A docker job that has a network, of these domains."""
    return file(("docker", {"Image": IMAGE}), {"Network": {"Type": "http", "Domains": domains}})


def job(data):
    return converted(data, 1, Dialect.BACALHAU_1X)[0]


def changes(data):
    return {change.field: change.text for change in converted(data, 1, Dialect.BACALHAU_1X)[1].changes}


def refusal(data):
    with pytest.raises(InvalidSpec) as caught:
        converted(data, 1, Dialect.BACALHAU_1X)
    return caught.value.reason, caught.value.field


def test_a_job_file_in_yaml_becomes_a_job():
    data = f"""
        # how most are written
        name: Docker Job with Output
        type: batch
        namespace: default
        count: 1
        constraints:
          - key: site
            operator: in
            values: [camera, ap]
        tasks:
          - name: main
            engine:
              type: docker
              params:
                Image: {IMAGE}
                Entrypoint:
                  - /bin/bash
                Parameters:
                  - -c
                  - echo 15 > /outputs/output.txt
                EnvironmentVariables: [A=1]
            env: {{B: "2"}}
            inputsources:
              - alias: input_custom
                target: /inputs/custom/
                source: {{type: ipfs, params: {{CID: {TREE_V0}}}}}
            publisher:
              type: ipfs
            resultpaths:
              - name: outputs
                path: /outputs
            network: {{type: None}}
            resources: {{cpu: 500m, memory: 1Gi, disk: "1 Gb", gpu: "0"}}
            timeouts: {{executiontimeout: 30}}
        """.encode()

    found = job(data)

    assert found.engine == DockerEngine(
        image=IMAGE,
        entrypoint=("/bin/bash",),
        args=("-c", "echo 15 > /outputs/output.txt"),
        env=(("A", "1"), ("B", "2")),
    )
    assert found.inputs == (Input(cid=TREE, path="/inputs/custom"),)
    assert str(found.selector) == "site in (ap,camera)"
    limits = found.limits
    assert (limits.wall_seconds, limits.cpu_millis, limits.memory_bytes) == (30, 500, 2**30)


def test_a_module_stands_in_the_engine_as_it_did_before_1_7():
    assert job(wasm()).engine == WasmEngine(module=MODULE)


@pytest.mark.parametrize("name", ["main", "/app/main.wasm", "/app/main.wasm/"])
def test_a_module_is_named_by_the_alias_or_the_target_of_an_input_source(name):
    params = {"EntryModule": name, "Entrypoint": "_start", "Parameters": ["a"], "EnvironmentVariables": {"A": "b"}}
    data = file(("wasm", params), {"InputSources": [PROGRAM, INPUT]})

    found = job(data)

    assert found.engine == WasmEngine(module=MODULE, args=("a",), env=(("A", "b"),))
    assert found.inputs == (Input(cid=TREE, path="/inputs"),)
    assert changes(data) == {
        "Tasks[0].InputSources[0].Target": "read as the module only, not among the inputs",
    }


def test_a_module_below_the_inputs_stays_an_input():
    program = {**PROGRAM, "Target": "/inputs/main.wasm"}
    data = file(("wasm", {"EntryModule": "main"}), {"InputSources": [program]})

    assert job(data).inputs == (Input(cid=MODULE, path="/inputs/main.wasm"),)
    assert changes(data) == {}


#: name -> (domains, the hosts that they become)
DOMAINS = {
    "one host": (["crates.io"], ["crates.io"]),
    "in their order": (["b.example", "a.example"], ["a.example", "b.example"]),
    "all below, and itself": ([".a.example"], ["*.a.example", "a.example"]),
    "spaces and capitals": ([" API.Example\n"], ["api.example"]),
    "twice": (["a.example", "A.example", ".a.example"], ["*.a.example", "a.example"]),
    "as many as a job has": ([f".a{i}.example" for i in range(8)],
                             sorted([f"a{i}.example" for i in range(8)] + [f"*.a{i}.example" for i in range(8)])),
}  # fmt: skip


@pytest.mark.parametrize("name", DOMAINS)
def test_domains_of_an_http_network_are_the_hosts_that_the_job_may_reach(name):
    domains, hosts = DOMAINS[name]

    found = job(reaching(domains))

    assert found.network == tuple(Destination(host=host, ports=(80, 443)) for host in hosts)
    assert "Network" not in str(changes(reaching(domains)))


#: name -> a file that says the same as the plain one
SAME = {
    "keys in lower case": wasm().replace(b"Engine", b"engine").replace(b"EntryModule", b"entrymodule"),
    "words in another case": wasm().replace(b'"wasm"', b'" WASM "').replace(b'"batch"', b'"Batch"'),
    "spaces before": b" \r\n\t" + wasm(),
    "YAML that is JSON": b"# a comment\n" + wasm(),
    "null where nothing is said": wasm({"Env": None, "Network": None, "Timeouts": None, "Publisher": None}),
    "what a server writes": wasm(ID="j-1", State={"StateType": "Completed"}, Version=1, Revision=2, CreateTime=3),
    "labels and notes": wasm({"Meta": {"a": "b"}}, Labels={"a.b[0]": "c", "A.b[0]": ""}, Meta={}, Namespace="x"),
    "no type": wasm(Type=...),
    "no network": wasm({"Network": {"Type": "None", "Domains": [], "Ports": []}}),
    "no time": wasm({"Timeouts": {"ExecutionTimeout": 0, "QueueTimeout": 0}}),
    "no resources": wasm({"Resources": {"CPU": "", "Memory": "", "Disk": "", "GPU": "0"}}),
    "an output": wasm({"ResultPaths": [{"Name": "outputs", "Path": "/outputs/"}]}),
    "variables of none": file(("wasm", {**WASM, "EnvironmentVariables": {}}), {"Env": {}}),
}


@pytest.mark.parametrize("name", SAME)
def test_a_file_that_says_the_same_is_the_same_job(name):
    assert job(SAME[name]) == job(wasm())
    assert changes(SAME[name]) == {}


URL = f"https://gateway.example/ipfs/{TREE_V0}"
BY_URL = {"Target": "/inputs", "Source": {"Type": "urlDownload", "Params": {"URL": URL}}}
#: name -> (file, what the conversion says that it changed)
NOTES = {
    "several copies": (wasm(Count=3), {"Count": "not used: the order says how many nodes run it"}),
    "a priority": (wasm(Priority=50), {"Priority": "not used: jobs start in the order of the chain"}),
    "the network of before": (wasm({"Network": {"Type": "Default"}}),
                              {"Tasks[0].Network.Type": "none: a network has to be asked for"}),
    "domains": (wasm({"Network": {"Domains": ["a.example"]}}),
                {"Tasks[0].Network.Domains": "not used: there is no network"}),
    "a publisher": (wasm({"Publisher": {"Type": "local"}}),
                    {"Tasks[0].Publisher.Type": "the bridge keeps the output"}),
    "an output's name": (wasm({"ResultPaths": [{"Name": "a", "Path": "/outputs"}]}),
                         {"Tasks[0].ResultPaths[0].Name": "not used: the output's folder is outputs"}),
    "a part of the outputs": (wasm({"ResultPaths": [{"Name": "outputs", "Path": "/outputs/a/"}]}),
                              {"Tasks[0].ResultPaths[0].Path": "all of /outputs is the output"}),
    "times to wait": (wasm({"Timeouts": {"QueueTimeout": 1, "TotalTimeout": 2}}),
                      {"Tasks[0].Timeouts.QueueTimeout": "not used: the order says until when it waits",
                       "Tasks[0].Timeouts.TotalTimeout": "not used: the order says until when it waits"}),
    "a small limit": (wasm({"Resources": {"CPU": "1m"}}),
                      {"Tasks[0].Resources.CPU": "raised to the smallest limit, 100"}),
    "content at a gateway": (wasm({"InputSources": [BY_URL]}),
                             {"Tasks[0].InputSources[0].Source.Params.URL":
                              f"read by CID, as {TREE_V0}; CIDv0 read as {TREE}"}),
    "a module as a CIDv0": (file(("wasm", {"EntryModule": {"Source": {"Type": "ipfs", "Params": {"CID": TREE_V0}}}})),
                            {"Tasks[0].Engine.Params.EntryModule.Source.Params.CID": f"CIDv0 read as {TREE}"}),
    "a working directory that the image sets": (docker(), {"Tasks[0].Engine.Params.WorkingDirectory":
                                                           "/, whatever the image says"}),
    "a working directory": (docker(WorkingDirectory="/app"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTES)
def test_the_conversion_says_what_it_changed(name):
    data, expected = NOTES[name]

    assert changes(data) == expected


def source(kind, **params):
    return wasm({"InputSources": [{"Target": "/inputs", "Source": {"Type": kind, "Params": params}}]})


def at_engine(**params):
    return file(("wasm", params))


def requires(**fields):
    return wasm(Constraints=[{"Key": "a", "Operator": "=", "Values": ["b"], **fields}])


R = Reason
T = "Tasks[0]"
#: name -> (bytes of the file, reason, field)
REFUSED = {
    # bytes that are no job file
    "nothing": (b"", R.SPEC_NOT_JSON, "spec"),
    "a comment": (b"# nothing", R.SPEC_NOT_JSON, "spec"),
    "raw bytes": (b"Name: \xff", R.SPEC_NOT_UTF8, "spec"),
    "raw bytes in JSON": (b'{"Name": "\xff"}', R.SPEC_NOT_UTF8, "spec"),
    "a word": (b"job", R.SPEC_NOT_JSON, "spec"),
    "a list": (b"- a", R.SPEC_NOT_JSON, "spec"),
    "half a list": (b"Tasks: [", R.SPEC_NOT_JSON, "spec"),
    "braces that are no JSON": (b"{Tasks: []}", R.SPEC_NOT_JSON, "spec"),
    "a tab for an indent": (b"Tasks:\n\t- a", R.SPEC_NOT_JSON, "spec"),
    "a control character": (b"Name: \x07", R.SPEC_NOT_JSON, "spec"),
    **{
        f"the line break {ord(sign):x}": (f'Name: "a{sign}b"'.encode(), R.SPEC_NOT_JSON, "spec")
        for sign in "\x85\u2028\u2029\ufeff"
    },
    "two documents": (b"Name: a\n---\nName: b\n", R.SPEC_NOT_JSON, "spec"),
    "a directive": (b"%YAML 1.1\n---\nName: a\n", R.SPEC_NOT_JSON, "spec"),
    "a directive for tags": (b"%TAG !e! tag:a.example,2000:\n---\nName: a\n", R.SPEC_NOT_JSON, "spec"),
    "a sign beyond Unicode": (b'Name: "\\UFFFFFFFF"', R.SPEC_NOT_JSON, "spec"),
    "too much YAML": (b"#" * (2**16 + 1), R.SPEC_TOO_LARGE, "spec"),
    "too much JSON": (wasm() + b" " * 2**18, R.SPEC_TOO_LARGE, "spec"),
    "nested a hundred deep": (b"Meta: " + b"[" * 100, R.SPEC_TOO_LARGE, "spec"),
    "nested a hundred deep in blocks": (b"- " * 100 + b"a", R.SPEC_TOO_LARGE, "spec"),
    # YAML that grows, runs, or is read in two ways
    "an anchor": (b"Name: &a b", R.SPEC_INVALID_FIELD, "Name"),
    "an alias": (b"Meta: {a: &a b}\nName: *a", R.SPEC_INVALID_FIELD, "Meta.a"),
    "an alias alone": (b"Name: *a", R.SPEC_INVALID_FIELD, "Name"),
    "a billion laughs": (b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]", R.SPEC_INVALID_FIELD, "a"),
    "an anchor on the whole": (b"&a\nName: b", R.SPEC_INVALID_FIELD, "spec"),
    "an anchor on a key": (b"&a Name: b", R.SPEC_INVALID_FIELD, "spec"),
    "a tag that runs Python": (b"Name: !!python/object/apply:os.system [id]", R.SPEC_INVALID_FIELD, "Name"),
    "a tag of YAML's own": (b"Count: !!int '1'", R.SPEC_INVALID_FIELD, "Count"),
    "a tag of one's own": (b"Name: !a b", R.SPEC_INVALID_FIELD, "Name"),
    "an operator that is a tag": (b"Constraints: [{Key: a, Operator: !, Values: [b]}]", R.SPEC_INVALID_FIELD,
                                  "Constraints[0].Operator"),
    "a merge key": (b"<<: {Name: a}", R.SPEC_INVALID_FIELD, "spec"),
    "a key that is a list": (b"? [a]\n: b", R.SPEC_INVALID_FIELD, "spec"),
    "a key that is a number": (b"Meta: {1: b}", R.SPEC_INVALID_FIELD, "Meta"),
    "a key twice": (b"Name: a\nName: b", R.SPEC_DUPLICATE_KEY, "Name"),
    "a key twice in quotes": (b'Meta: {a: b, "a": c}', R.SPEC_DUPLICATE_KEY, "Meta.a"),
    "a key twice in two cases": (b"Name: a\nname: b", R.SPEC_DUPLICATE_KEY, "name"),
    "half a surrogate": (b'Name: "\\ud800"', R.SPEC_INVALID_FIELD, "Name"),
    **{
        f"the word {word}": (f"Name: {word}".encode(), R.SPEC_INVALID_FIELD, "Name")
        for word in ("yes", "No", "on", "OFF", "y", "N", "012", "0o17", "0x1F", "0b11", "1_000", "12:30:45", "+1", "1.",
                     ".5", "-.inf", ".nan", "2001-01-01", "<<", "1" * 21)
    },
    # fields that nobody knows, or that are missing
    "a key that nobody knows": (wasm(Privileged=True), R.SPEC_UNKNOWN_FIELD, "Privileged"),
    "a key of another dialect": (wasm(Spec={}), R.SPEC_UNKNOWN_FIELD, "Spec"),
    "a key that nobody knows, in a task": (wasm({"Volumes": []}), R.SPEC_UNKNOWN_FIELD, f"{T}.Volumes"),
    "a key that nobody knows, in an engine": (docker(Privileged=True), R.SPEC_UNKNOWN_FIELD,
                                              f"{T}.Engine.Params.Privileged"),
    "a key that nobody knows, beside an engine": (wasm({"Engine": {"Type": "wasm", "Params": WASM, "x": 1}}),
                                                  R.SPEC_UNKNOWN_FIELD, f"{T}.Engine.x"),
    "a key that nobody knows, in a source": (source("ipfs", CID=str(TREE), x=1), R.SPEC_UNKNOWN_FIELD,
                                             f"{T}.InputSources[0].Source.Params.x"),
    "a key that nobody knows, in the network": (wasm({"Network": {"x": 1}}), R.SPEC_UNKNOWN_FIELD, f"{T}.Network.x"),
    "a key that nobody knows, in the timeouts": (wasm({"Timeouts": {"x": 1}}), R.SPEC_UNKNOWN_FIELD,
                                                 f"{T}.Timeouts.x"),
    "no tasks": (wasm(Tasks=[]), R.SPEC_MISSING_FIELD, "Tasks"),
    "no engine": (wasm({"Engine": ...}), R.SPEC_MISSING_FIELD, f"{T}.Engine.Type"),
    "no image": (docker(Image=""), R.SPEC_MISSING_FIELD, f"{T}.Engine.Params.Image"),
    "no module": (at_engine(), R.SPEC_MISSING_FIELD, f"{T}.Engine.Params.EntryModule"),
    "a module that is empty": (at_engine(EntryModule={}), R.SPEC_MISSING_FIELD,
                               f"{T}.Engine.Params.EntryModule.Source.Type"),
    "a source without a target": (wasm({"InputSources": [{**INPUT, "Target": ""}]}), R.SPEC_MISSING_FIELD,
                                  f"{T}.InputSources[0].Target"),
    "a source without a type": (source(""), R.SPEC_MISSING_FIELD, f"{T}.InputSources[0].Source.Type"),
    "a source without a CID": (source("ipfs"), R.SPEC_MISSING_FIELD, f"{T}.InputSources[0].Source.Params.CID"),
    "an output without a path": (wasm({"ResultPaths": [{"Name": "a"}]}), R.SPEC_MISSING_FIELD,
                                 f"{T}.ResultPaths[0].Path"),
    # what no node offers
    "two tasks": (wasm(Tasks=[{}, {}]), R.SPEC_UNSUPPORTED, "Tasks"),
    "another engine": (file(("noop", {})), R.UNKNOWN_ENGINE, f"{T}.Engine.Type"),
    **{
        f"a {kind} job": (wasm(Type=kind), R.SPEC_UNSUPPORTED, "Type")
        for kind in ("ops", "daemon", "service")
    },
    **{
        f"the network {kind}": (wasm({"Network": {"Type": kind}}), R.SPEC_UNSUPPORTED, f"{T}.Network.Type")
        for kind in ("Host", "Full", "Bridge")
    },
    "HTTP for a module": (wasm({"Network": {"Type": "HTTP", "Domains": ["a.example"]}}), R.SPEC_UNSUPPORTED,
                          f"{T}.Network.Type"),
    "HTTP to nowhere": (reaching([]), R.SPEC_MISSING_FIELD, f"{T}.Network.Domains"),
    "more domains than a job has": (reaching([f".a{i}.example" for i in range(9)]),
                                    R.SPEC_INVALID_FIELD, f"{T}.Network.Domains"),
    **{
        f"the domain {domain!r:.40}": (reaching(["a.example", domain]),
                                       R.SPEC_INVALID_FIELD, f"{T}.Network.Domains[1]")
        for domain in ("", ".", "localhost", ".com", "192.0.2.1", "2001:db8::1", "*.a.example", "a.example:80",
                       "https://a.example", "a..example", "..a.example", "a.example.", "b\u00fccher.example",
                       "a.example/", "a_b.example", "a.example\x00", "a" * 64 + ".example")
    },
    "ports": (wasm({"Network": {"Ports": [{"Name": "a", "Target": 80}]}}), R.SPEC_UNSUPPORTED, f"{T}.Network.Ports"),
    "a GPU": (wasm({"Resources": {"GPU": "1"}}), R.SPEC_UNSUPPORTED, f"{T}.Resources.GPU"),
    **{
        f"content of the type {kind}": (source(kind, SourcePath="/etc"), R.SPEC_UNSUPPORTED,
                                        f"{T}.InputSources[0].Source.Type")
        for kind in ("s3", "s3PreSigned", "local", "localDirectory", "inline")
    },
    "content at a URL": (source("urlDownload", URL="https://a.example/x"), R.SPEC_UNSUPPORTED,
                         f"{T}.InputSources[0].Source.Params.URL"),
    "a bucket": (wasm({"Publisher": {"Type": "s3", "Params": {"Bucket": "a"}}}), R.SPEC_UNSUPPORTED,
                 f"{T}.Publisher.Type"),
    "a publisher with parameters": (wasm({"Publisher": {"Type": "ipfs", "Params": {"a": 1}}}), R.SPEC_UNSUPPORTED,
                                    f"{T}.Publisher.Params"),
    "an output that is elsewhere after all": (wasm({"ResultPaths": [{"Path": "/outputs/../etc"}]}),
                                              R.SPEC_UNSUPPORTED, f"{T}.ResultPaths[0].Path"),
    "an output elsewhere": (wasm({"ResultPaths": [{"Path": "/output_custom"}]}), R.SPEC_UNSUPPORTED,
                            f"{T}.ResultPaths[0].Path"),
    "a variable of the node": (wasm({"Env": {"KEY": "env:AWS_SECRET_ACCESS_KEY"}}), R.SPEC_UNSUPPORTED, f"{T}.Env"),
    "a variable of the node, in the engine": (docker(EnvironmentVariables=["KEY=env:HOME"]), R.SPEC_UNSUPPORTED,
                                              f"{T}.Engine.Params.EnvironmentVariables"),
    "another function than _start": (at_engine(**WASM, Entrypoint="main"), R.SPEC_UNSUPPORTED,
                                     f"{T}.Engine.Params.Entrypoint"),
    "modules to link": (at_engine(**WASM, ImportModules=[INPUT]), R.SPEC_UNSUPPORTED,
                        f"{T}.Engine.Params.ImportModules"),
    # values of the wrong form
    "an image by tag": (docker(Image="ubuntu:latest"), R.SPEC_INVALID_FIELD, f"{T}.Engine.Params.Image"),
    "a variable that is set twice": (file(("docker", {"Image": IMAGE, "EnvironmentVariables": ["A=1"]}),
                                          {"Env": {"A": "1"}}), R.SPEC_DUPLICATE_KEY, f"{T}.Env"),
    "a variable that is no name": (wasm({"Env": {"A-B": ""}}), R.SPEC_INVALID_FIELD, f"{T}.Env.A-B"),
    "a variable that is a number": (wasm({"Env": {"A": 1}}), R.SPEC_INVALID_FIELD, f"{T}.Env.A"),
    "variables in a list": (wasm({"Env": ["A=1"]}), R.SPEC_INVALID_FIELD, f"{T}.Env"),
    "too many variables": (wasm({"Env": {f"A{n}": "" for n in range(65)}}), R.SPEC_INVALID_FIELD, f"{T}.Env"),
    "a count in quotes": (wasm(Count="1"), R.SPEC_INVALID_FIELD, "Count"),
    "a task that is a word": (wasm(Tasks=["a"]), R.SPEC_INVALID_FIELD, "Tasks[0]"),
    "a module that no source has": (at_engine(EntryModule="main"), R.SPEC_INVALID_FIELD,
                                    f"{T}.Engine.Params.EntryModule"),
    "a module that two sources have": (file(("wasm", {"EntryModule": "main"}),
                                            {"InputSources": [PROGRAM, {**INPUT, "Alias": "main"}]}),
                                       R.SPEC_INVALID_FIELD, f"{T}.Engine.Params.EntryModule"),
    "a module that is a number": (at_engine(EntryModule=1), R.SPEC_INVALID_FIELD, f"{T}.Engine.Params.EntryModule"),
    "an input elsewhere": (wasm({"InputSources": [{**INPUT, "Target": "/input_custom"}]}), R.SPEC_INVALID_FIELD,
                           f"{T}.InputSources[0].Target"),
    "two inputs at one path": (wasm({"InputSources": [INPUT, INPUT]}), R.SPEC_INVALID_FIELD,
                               f"{T}.InputSources[0].Target"),
    "resources that are numbers": (wasm({"Resources": {"CPU": 1}}), R.SPEC_INVALID_FIELD, f"{T}.Resources.CPU"),
    "a part of a second": (wasm({"Timeouts": {"ExecutionTimeout": 1.5}}), R.SPEC_INVALID_FIELD,
                           f"{T}.Timeouts.ExecutionTimeout"),
    "a requirement in another's value": (requires(Values=["b,c=d"]), R.SPEC_INVALID_FIELD, "Constraints[0].Values"),
    "an operator that nobody knows": (requires(Operator="~"), R.SPEC_INVALID_FIELD, "Constraints[0].Operator"),
    "a CID that is none": (source("ipfs", CID="bafy"), R.BAD_CID, f"{T}.InputSources[0].Source.Params.CID"),
    "too much memory": (wasm({"Resources": {"Memory": "1Tb"}}), R.LIMIT_OUT_OF_RANGE, f"{T}.Resources.Memory"),
    "too much time": (wasm({"Timeouts": {"ExecutionTimeout": 86401}}), R.LIMIT_OUT_OF_RANGE,
                      f"{T}.Timeouts.ExecutionTimeout"),
    "time before the start": (wasm({"Timeouts": {"ExecutionTimeout": -1}}), R.LIMIT_OUT_OF_RANGE,
                              f"{T}.Timeouts.ExecutionTimeout"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_with_reason_and_the_authors_own_path(name):
    data, reason, field = REFUSED[name]

    assert refusal(data) == (reason, field)
    assert reason.is_attestable


#: a plain word in YAML -> what JSON would say
WORDS = {
    "null": None, "~": None, "": None, "true": True, "False": False, "1": 1, "-7": -7, "1.5": 1.5, "1e3": 1000.0,
    "=": "=", "==": "==", "1Gi": "1Gi", "100m": "100m", "'yes'": "yes", '"012"': "012", "yess": "yess",
    "12ab": "12ab", "|-\n  a\n  b": "a\nb", ">-\n  a\n  b": "a b",
}  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_a_plain_word_is_what_every_reader_of_yaml_takes_it_for(word):
    assert parse_yaml(f"a: {word}\n".encode()) == {"a": WORDS[word]}


def test_an_author_need_not_know_the_orders_labels():
    order = Order(spec=wasm(), ttl=60, dialect=int(Dialect.BACALHAU_1X), labels=(label_hash("site=camera"),))

    assert job_of(order, wasm()) == job(wasm())


def test_every_reason_of_a_refusal_stands_in_the_documentation():
    page = (Path(__file__).resolve().parents[2] / "docs" / "spec.md").read_text()
    general, rest = page.split("### Specs of other systems", 1)[1].split("### Bacalhau V1beta", 1)
    part = general + rest.split("### Bacalhau 1.x", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]

    for reason in {reason for _, reason, _ in REFUSED.values()}:
        assert reason.name in part, reason
