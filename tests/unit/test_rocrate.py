"""A settled job as a Process Run Crate 0.5: what the profile and RO-Crate 1.1 require, and what ours says."""

from dataclasses import replace

import pytest

from bridge.rocrate import ResultFile, process_crate
from executor.errors import InvalidInput
from executor.protocol.cid import Cid
from executor.protocol.leases import RequestMessage
from executor.protocol.reasons import Reason
from executor.protocol.wire import Outcome, Status
from tests.bundles import attest, changed, settled, with_attestation

IMAGE = "sha256:" + "ab" * 32


@pytest.fixture
def job(tmp_path):
    return settled(tmp_path, nodes=3)


def files(job):
    return [
        ResultFile("outputs/a b/\u00e9%.json", 13, str(job.output)),
        ResultFile("stdout", 9, str(job.output)),
    ]  # fmt: skip


def graph(bundle, found=(), directories=frozenset()):
    made = process_crate(bundle, list(found), directories)
    entities = {one["@id"]: one for one in made["@graph"]}
    assert len(entities) == len(made["@graph"])
    return entities


def of_type(entities, kind):
    return [one for one in entities.values() if one["@type"] == kind]


def ended_as(job, outcome, n=0):
    request = job.bundle.request.request()
    word = attest(request, outcome, n, [("program", job.module), ("/inputs/log", job.data)])
    return changed(job.bundle, outcome=outcome.encode(), attestations=(word,))


def test_the_crate_has_what_ro_crate_and_the_profile_require(job):
    entities = graph(job.bundle, files(job))
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]

    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert root["datePublished"] == "2023-11-14T22:13:21.500Z"
    assert all(isinstance(root[name], str) and root[name] for name in ("name", "description", "license"))
    profile = entities[root["conformsTo"]["@id"]]
    assert (profile["@id"], profile["@type"]) == ("https://w3id.org/ro/wfrun/process/0.5", "CreativeWork")
    for action in of_type(entities, "CreateAction"):
        assert {"@id": action["@id"]} in root["mentions"]
        assert entities[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert entities[action["agent"]["@id"]]["@type"] == "Organization"
        assert action["endTime"] > action["startTime"]


def test_every_reference_names_an_entity_of_the_crate(job):
    entities = graph(job.bundle, files(job))

    def references(value):
        if isinstance(value, dict):
            yield value["@id"]
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    outside = {"http://schema.org/CompletedActionStatus", "https://w3id.org/ro/crate/1.1"}
    for entity in entities.values():
        for key, value in entity.items():
            if key != "@id":
                assert set(references(value)) - outside <= entities.keys()


def test_each_node_that_attested_has_run_it_once(job):
    runs = of_type(graph(job.bundle, files(job)), "CreateAction")

    assert len({run["@id"] for run in runs}) == 3
    assert {run["agent"]["@id"] for run in runs} == {
        f"urn:insula:node:{item.key}" for item in job.bundle.attestations
    }  # fmt: skip


def test_inputs_are_named_by_cid_with_the_place_where_the_job_saw_them(job):
    entities = graph(job.bundle, files(job))
    (run, *_) = of_type(entities, "CreateAction")

    assert run["object"] == [{"@id": f"ipfs://{job.data}"}, {"@id": "spec"}]
    assert entities[f"ipfs://{job.data}"]["alternateName"] == "/inputs/log"
    assert entities[f"ipfs://{job.data}"]["@type"] == "File"
    assert graph(job.bundle, files(job), frozenset({job.data}))[f"ipfs://{job.data}"]["@type"] == "Dataset"


def test_results_are_files_of_the_crate_whose_names_are_uris(job):
    entities = graph(job.bundle, files(job))
    (run, *_) = of_type(entities, "CreateAction")

    assert run["result"] == [{"@id": "output/outputs/a%20b/%C3%A9%25.json"}, {"@id": "output/stdout"}]
    assert entities["output/stdout"]["contentSize"] == "9"
    assert {ref["@id"] for ref in run["result"]} <= {ref["@id"] for ref in entities["./"]["hasPart"]}


def test_the_bundle_and_the_envelopes_are_parts_of_the_crate(job):
    bundle = with_attestation(job.bundle, dsse_signature=None)
    parts = {ref["@id"] for ref in graph(bundle)["./"]["hasPart"]}

    assert {"bundle.json", "spec", "receipts/node-2.dsse.json", "receipts/node-3.dsse.json"} <= parts
    assert "receipts/node-1.dsse.json" not in parts


def test_a_job_that_failed_says_why(job):
    outcome = Outcome(status=Status.FAILED, reason=int(Reason.EXIT_NON_ZERO), exit_code=3)
    (run,) = of_type(graph(ended_as(job, outcome)), "ActivateAction")

    assert run["actionStatus"] == {"@id": "http://schema.org/FailedActionStatus"}
    assert run["error"] == "EXIT_NON_ZERO, exit code 3"
    assert "result" not in run


def test_a_withheld_output_is_no_result_and_says_so(job):
    outcome = Outcome(status=Status.WITHHELD, reason=int(Reason.RELEASE_REJECTED))
    (run,) = of_type(graph(ended_as(job, outcome)), "ActivateAction")

    assert "withheld: RELEASE_REJECTED" in run["description"]
    assert "error" not in run


def test_an_output_that_was_released_in_part_says_so(job):
    outcome = replace(Outcome.decode(job.bundle.outcome), reason=int(Reason.RELEASED_IN_PART))
    (run, *_) = of_type(graph(changed(job.bundle, outcome=outcome.encode()), files(job)), "CreateAction")

    assert "released in part" in run["description"]


def test_an_image_is_the_instrument_of_a_container_job(job):
    spec = (f'{{"version":"insula/v1","engine":{{"type":"docker","image":"{IMAGE}","args":["-x","1"]}}}}').encode()
    request = job.bundle.request.request()
    request = replace(request, order=replace(request.order, spec=spec))
    bundle = changed(job.bundle, request=RequestMessage.of(request), spec=spec, request_hash=request.hash)
    (tool,) = of_type(graph(bundle), "SoftwareApplication")

    assert tool["@id"] == f"urn:insula:image:{IMAGE}"
    assert of_type(graph(bundle), "ActivateAction")[0]["description"] == "-x 1"


NOTHING = {
    "a refused job": (lambda b: changed(b, outcome=Outcome(status=Status.REFUSED, reason=101).encode()), "--ro-crate"),
    "a bundle with no attestations": (lambda b: changed(b, attestations=()), "bundle: attestations"),
    "a receipt that is none": (lambda b: with_attestation(b, receipt=b"{}"), "receipt"),
    "a receipt without its run": (
        lambda b: with_attestation(b, receipt=b'{"_type":"https://in-toto.io/Statement/v1"}'), "receipt of node 1"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOTHING)
def test_where_nothing_ran_there_is_nothing_to_describe(job, what):
    change, field = NOTHING[what]

    with pytest.raises(InvalidInput) as caught:
        process_crate(change(job.bundle), [], frozenset())

    assert caught.value.field == field


def test_an_input_at_two_places_is_one_entity(job):
    spec = (
        f'{{"version":"insula/v1","engine":{{"type":"wasm","module":"{job.module}"}},"inputs":['
        f'{{"cid":"{job.data}","path":"/inputs/a"}},{{"cid":"{job.data}","path":"/inputs/b"}}]}}'
    ).encode()
    request = job.bundle.request.request()
    request = replace(request, order=replace(request.order, spec=spec))
    bundle = changed(job.bundle, request=RequestMessage.of(request), spec=spec)

    assert Cid.parse(graph(bundle)[f"ipfs://{job.data}"]["identifier"]) == job.data
