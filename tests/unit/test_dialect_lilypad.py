"""Lilypad's modules: a job, or the refusal that nodes attest; their templates are filled in, never run."""

import json
from pathlib import Path

import pytest

from executor.protocol.cid import RAW, Cid
from executor.protocol.reasons import Reason
from executor.protocol.spec import LIMITS, DockerEngine, InvalidSpec, WasmEngine, converted, job_of
from executor.protocol.wire import Dialect, Order

MODULE = Cid.of(RAW, b"module")
IMAGE = f"ghcr.io/a/cowsay@sha256:{'0' * 64}"
TEMPLATE = """{
  "machine": { "gpu": 0, "cpu": 1000, "ram": 100 },
  "job": {
    "APIVersion": "V1beta1",
    "Spec": {
      "Deal": { "Concurrency": 1 },
      "Docker": { "Entrypoint": ["/usr/local/bin/cowsay", {{ .Message }}], "Image": "IMAGE", "WorkingDirectory": "/" },
      "Engine": "Docker", "Network": { "Type": "None" }, "PublisherSpec": { "Type": "" },
      "Resources": { "GPU": "" }, "Timeout": 1800, "Verifier": "Noop"
    }
  }
}""".replace("IMAGE", IMAGE)
WASM = {"EntryModule": {"StorageSource": "IPFS", "CID": str(MODULE)}}
SPEC = {"Engine": "wasm", "Wasm": WASM}


def module(spec=None, machine=None, **fields):
    """A module without a template; a value of ... removes the field."""
    job = {"APIVersion": "V1beta1", "Spec": {**SPEC, **(spec or {})}}
    whole = {"machine": machine or {}, "job": job, **fields}
    return json.dumps({key: value for key, value in whole.items() if value is not ...}).encode()


def order(template=TEMPLATE, **inputs):
    return json.dumps({"module": template, "inputs": inputs}).encode()


def job(data, quorum=1):
    return converted(data, quorum, Dialect.LILYPAD_MODULE)[0]


def changes(data):
    return {change.field: change.text for change in converted(data, 1, Dialect.LILYPAD_MODULE)[1].changes}


def refusal(data):
    with pytest.raises(InvalidSpec) as caught:
        converted(data, 1, Dialect.LILYPAD_MODULE)
    return caught.value.reason, caught.value.field


def test_a_template_and_its_inputs_become_a_job():
    found = job(order(Message="moo"))

    assert found.engine == DockerEngine(image=IMAGE, entrypoint=("/usr/local/bin/cowsay", "moo"))
    assert found.limits.wall_seconds == 1800
    assert (found.limits.cpu_millis, found.limits.memory_bytes) == (1000, 100 * 2**20)


def test_a_module_without_a_template_is_a_job_alone_or_in_an_order():
    assert job(module()) == job(b'{"module": %b}' % module()) == job(b'{"module": %b, "inputs": {}}' % module())
    assert job(module()).engine == WasmEngine(module=MODULE)


def test_the_words_around_a_module_are_read_in_any_case():
    assert job(order(Message="moo").replace(b'"module"', b'"Module"')) == job(order(Message="moo"))


def test_a_module_is_the_job_that_its_spec_is_in_v1beta():
    assert job(module()) == converted(json.dumps(SPEC).encode())[0]
    assert job(module(machine={"cpu": 0})) == job(module(machine=...)) == job(module())


#: what a caller may hope to break out with
HOSTILE = (
    "moo", "", '"', '"], "Image": "evil", "x": ["', "\\", '\\"', "\n\t\r", "{{ .Message }}", "{{ .Other }}", "}}", "%s",
    "\u2028\u202e\ufeff", "\U0001f404", "</script>", "$(id)", "${HOME}", "`id`", "\x01",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_an_input_is_one_string_whatever_is_in_it(text):
    assert job(order(Message=text)).engine.entrypoint == ("/usr/local/bin/cowsay", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_an_input_stays_within_the_quotes_around_it(text):
    template = TEMPLATE.replace("{{ .Message }}", '"--say={{.Message}}!", "{{ .Message }}"')

    assert job(order(template, Message=text)).engine.entrypoint == ("/usr/local/bin/cowsay", f"--say={text}!", text)


def test_spaces_around_a_name_do_not_matter():
    assert job(order(TEMPLATE.replace("{{ .Message }}", "{{\n\t.Message}}"), Message="a")) == job(order(Message="a"))


def test_a_quote_in_the_text_does_not_turn_the_sides():
    template = TEMPLATE.replace("{{ .Message }}", '"a \\" b", {{ .Message }}, "c \\\\", {{ .Message }}')

    assert job(order(template, Message="x")).engine.entrypoint[1:] == ('a " b', "x", "c \\", "x")


#: name -> (module, limit, its value)
LIMITED = {
    "cores of the machine": (module(machine={"cpu": 2500}), "cpu_millis", 2500),
    "memory of the machine": (module(machine={"ram": 1024}), "memory_bytes", 2**30),
    "disk of the machine": (module(machine={"disk": 10}), "disk_bytes", 10 * 2**20),
    "cores of the job": (module({"Resources": {"CPU": "3"}}, {"cpu": 2500}), "cpu_millis", 3000),
    "no cores of the job": (module({"Resources": {"CPU": ""}}, {"cpu": 2500}), "cpu_millis", 2500),
    "few cores": (module(machine={"cpu": 1}), "cpu_millis", 100),
    "no machine": (module(machine=...), "cpu_millis", LIMITS["cpuMillis"][0]),
    "no time": (module(executionTimeoutSeconds=0), "wall_seconds", 600),
    "the module's time": (module(executionTimeoutSeconds=60), "wall_seconds", 60),
    "the job's time": (module({"Timeout": 30}, executionTimeoutSeconds=0), "wall_seconds", 30),
    "a shorter time of the job": (module({"Timeout": 30}, executionTimeoutSeconds=60), "wall_seconds", 30),
    "a shorter time of the module": (module({"Timeout": 90}, executionTimeoutSeconds=60), "wall_seconds", 60),
    "the same time": (module({"Timeout": 60}, executionTimeoutSeconds=60), "wall_seconds", 60),
}


@pytest.mark.parametrize("name", LIMITED)
def test_the_machine_and_the_times_become_limits(name):
    data, limit, value = LIMITED[name]

    assert getattr(job(data).limits, limit) == value


#: name -> (module, what the conversion says that it changed)
NOTES = {
    "nothing": (module(author="a", description="b", image="c", model="d", inputFiles={"required": []}), {}),
    "cores that the job says": (module({"Resources": {"CPU": "3"}}, {"cpu": 2500}),
                                {"machine.cpu": "not used: the job's Resources say it"}),
    "few cores": (module(machine={"cpu": 1}), {"machine.cpu": "raised to the smallest limit, 100"}),
    "a shorter time of the job": (module({"Timeout": 30}, executionTimeoutSeconds=60),
                                  {"executionTimeoutSeconds": "not used: the job's Timeout is no longer"}),
    "a shorter time of the module": (module({"Timeout": 90}, executionTimeoutSeconds=60),
                                     {"job.Spec.Timeout": "not used: executionTimeoutSeconds is shorter"}),
    "files that may be there": (module(inputFiles={"optional": ["a.txt"]}),
                                {"inputFiles.optional": "not used: the job's inputs are all that it gets"}),
    "the job's metadata": (module(job={"Metadata": {"ID": "x"}, "Spec": SPEC}), {"job.Metadata": "not used"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTES)
def test_the_conversion_says_what_it_changed(name):
    data, expected = NOTES[name]

    assert changes(data) == expected


def acting(action):
    """The template with another action, its input given."""
    return order(TEMPLATE.replace("{{ .Message }}", action), Message="moo")


R = Reason
#: name -> (bytes of the spec, reason, field)
REFUSED = {
    # templates that are programs
    **{
        f"the action {action}": (acting(action), R.SPEC_UNSUPPORTED, "module")
        for action in (
            '{{if .Message}}{{.Message}}{{else}}"moo"{{end}}', '{{ subst "%s" .Message }}', "{{ js .Message }}",
            "{{ .Message | js }}", "{{- .Message -}}", "{{ . }}", "{{ .Message.Length }}", "{{ $x := .Message }}",
            "{{/* a comment */}}", '{{ template "x" }}', '{{ "moo" }}', "{{}}", "{{ }}", "{{ Message }}", "{{ .M e }}",
            '{{ index . "Message" }}', "{{ call .Message }}", "{{ .M\u00e9 }}", "{{ {{ .Message }} }}",
            "{{ ." + "M" * 65 + " }}",
        )
    },
    "an action without an end": (order('{"a": {{ .Message ', Message=""), R.SPEC_INVALID_FIELD, "module"),
    "an action without an end, in quotes": (order('{"a": "{{ .Message"}', Message=""), R.SPEC_INVALID_FIELD, "module"),
    # inputs
    "an input that is missing": (order(), R.SPEC_MISSING_FIELD, "inputs.Message"),
    "no inputs": (json.dumps({"module": TEMPLATE}).encode(), R.SPEC_MISSING_FIELD, "inputs.Message"),
    "an input in another case": (order(message="moo"), R.SPEC_MISSING_FIELD, "inputs.Message"),
    "an input too many": (order(Message="a", Seed="1"), R.SPEC_UNKNOWN_FIELD, "inputs.Seed"),
    "an input that is a number": (order(Message=1), R.SPEC_INVALID_FIELD, "inputs.Message"),
    "an input with a NUL": (order(Message="\0"), R.SPEC_INVALID_FIELD, "inputs.Message"),
    "an input that is too long": (order(Message="a" * 4097), R.SPEC_INVALID_FIELD, "inputs.Message"),
    "inputs in a list": (json.dumps({"module": TEMPLATE, "inputs": []}).encode(), R.SPEC_INVALID_FIELD, "inputs"),
    "too many inputs": (order(**{f"a{n}": "" for n in range(65)}), R.SPEC_INVALID_FIELD, "inputs"),
    "inputs for what is no template": (b'{"module": %b, "inputs": {"a": "b"}}' % module(), R.SPEC_UNKNOWN_FIELD,
                                       "inputs"),
    "an input twice": (b'{"module": "", "inputs": {"a": "", "a": ""}}', R.SPEC_DUPLICATE_KEY, "a"),
    "a module twice, in two cases": (b'{"module": {}, "Module": {}}', R.SPEC_DUPLICATE_KEY, "Module"),
    # text that is no module once it is filled in
    "a text that is no JSON": (order("{"), R.SPEC_NOT_JSON, "module"),
    "a text that lacks a comma": (order('{"machine": {} "job": {}}'), R.SPEC_NOT_JSON, "module"),
    "an empty text": (order(""), R.SPEC_NOT_JSON, "module"),
    "a text with a key twice": (order('{"job": {}, "job": {}}'), R.SPEC_DUPLICATE_KEY, "module.job"),
    "a text that grows": (order("[" + ",".join(["{{ .a }}"] * 200) + "]", a="a" * 4096), R.SPEC_TOO_LARGE, "module"),
    "a text that is nested deep": (order("[" * 100), R.SPEC_TOO_LARGE, "module"),
    "a backslash before an action": (order('{"a": "\\{{ .a }}"}', a=""), R.SPEC_UNKNOWN_FIELD, "inputs.a"),
    "bytes that are no text": (b"\xff", R.SPEC_NOT_UTF8, "spec"),
    "a list": (b"[]", R.SPEC_NOT_JSON, "spec"),
    # modules
    "an action in a module that is no text": (module({"Annotations": ["{{ .a }}"]}), R.SPEC_UNSUPPORTED, "spec"),
    "an action in a module that is no text, in an order": (
        b'{"module": %b}' % module({"Annotations": ["{{ .a }}"]}), R.SPEC_UNSUPPORTED, "module"),
    "a module by repository": (b'{"module": {"name": "", "repo": "https://a.example/x", "hash": "v1"}, "inputs": {}}',
                               R.SPEC_UNSUPPORTED, "module.repo"),
    "a module by hash": (b'{"hash": "v1", "path": "/x"}', R.SPEC_UNSUPPORTED, "hash"),
    "no job": (module(job=...), R.SPEC_MISSING_FIELD, "job"),
    "a key that nobody knows": (module(x=1), R.SPEC_UNKNOWN_FIELD, "x"),
    "a key that nobody knows, around the module": (b'{"module": %b, "x": 1}' % module(), R.SPEC_UNKNOWN_FIELD, "x"),
    "a key that nobody knows, in the machine": (module(machine={"tpu": 1}), R.SPEC_UNKNOWN_FIELD, "machine.tpu"),
    "a key that nobody knows, in the files": (module(inputFiles={"x": []}), R.SPEC_UNKNOWN_FIELD, "inputFiles.x"),
    "a key that nobody knows, in the spec": (module({"x": 1}), R.SPEC_UNKNOWN_FIELD, "job.Spec.x"),
    "a GPU": (module(machine={"gpu": 1}), R.SPEC_UNSUPPORTED, "machine.gpu"),
    "GPUs": (module(machine={"gpus": [{"vram": 24000}]}), R.SPEC_UNSUPPORTED, "machine.gpus"),
    "files that have to be there": (module(inputFiles={"required": ["cat.jpg"]}), R.SPEC_UNSUPPORTED,
                                    "inputFiles.required"),
    "cores in quotes": (module(machine={"cpu": "1"}), R.SPEC_INVALID_FIELD, "machine.cpu"),
    "a part of a megabyte": (module(machine={"ram": 0.5}), R.SPEC_INVALID_FIELD, "machine.ram"),
    "too many cores": (module(machine={"cpu": 64001}), R.LIMIT_OUT_OF_RANGE, "machine.cpu"),
    "too much memory": (module(machine={"ram": 10**20 - 1}), R.LIMIT_OUT_OF_RANGE, "machine.ram"),
    "too much time": (module(executionTimeoutSeconds=86401), R.LIMIT_OUT_OF_RANGE, "executionTimeoutSeconds"),
    "what V1beta refuses": (module({"Network": {"Type": "Full"}}), R.SPEC_UNSUPPORTED, "job.Spec.Network.Type"),
    "what V1beta refuses, around the spec": (module(job={"APIVersion": "V2", "Spec": SPEC}), R.SPEC_INVALID_FIELD,
                                             "job.APIVersion"),
    "an image by tag": (order(TEMPLATE.replace(IMAGE, "a/b:latest"), Message=""), R.SPEC_INVALID_FIELD,
                        "module.job.Spec.Docker.Image"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_with_reason_and_the_authors_own_path(name):
    data, reason, field = REFUSED[name]

    assert refusal(data) == (reason, field)
    assert reason.is_attestable


def test_the_orders_quorum_is_what_a_verifier_is_held_to():
    data = module({"Verifier": "deterministic", "Deal": {"Confidence": 2}})

    assert job_of(Order(spec=data, ttl=60, dialect=4, nodes=3, quorum=2), data) == job(module())
    assert refusal(data) == (Reason.SPEC_UNSUPPORTED, "job.Spec.Verifier")


def test_every_reason_of_a_refusal_stands_in_the_documentation():
    page = (Path(__file__).resolve().parents[2] / "docs" / "spec.md").read_text()
    general, rest = page.split("### Specs of other systems", 1)[1].split("### Bacalhau V1beta", 1)
    part = general + rest.split("### Lilypad modules", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]

    for reason in {reason for _, reason, _ in REFUSED.values()}:
        assert reason.name in part, reason
