"""What becomes of each field of V1beta: the table in docs/spec.md, and the reasons in a conversion's report. Pure."""

from __future__ import annotations

from executor.protocol.dialects.conversion import Action, Rule
from executor.protocol.dialects.networks import DOMAINS_REFUSED, DOMAINS_WHY, TYPE_WHY

_MAPPED, _OVERRIDDEN = Action.MAPPED, Action.OVERRIDDEN
_OTHER_SOURCE = "other than IPFS and URLDownload: SPEC_UNSUPPORTED"
_ANYTHING = "with anything in it: SPEC_UNSUPPORTED"

#: of the object around a spec
AROUND = (
    Rule("APIVersion", _MAPPED, "the version of this dialect", "other than V1beta1 and V1beta2: SPEC_INVALID_FIELD"),
    Rule("Metadata", _OVERRIDDEN, "not used"),
)

#: of a spec
SPEC = (
    Rule("Engine", _MAPPED, "docker or wasm", "every other engine, noop and language among them: UNKNOWN_ENGINE"),
    Rule("Docker.Image", _MAPPED, "the image", "a tag, which can change (write name@sha256:...): SPEC_INVALID_FIELD"),
    Rule("Docker.Entrypoint", _MAPPED, "the entrypoint; without one the image's own"),
    Rule("Docker.Parameters", _MAPPED, "the arguments"),
    Rule("Docker.EnvironmentVariables", _MAPPED, "the variables, A=1 each",
         "no `=`: SPEC_INVALID_FIELD; a name twice: SPEC_DUPLICATE_KEY"),
    Rule("Docker.WorkingDirectory", _MAPPED, "the working directory; without one /, not the image's own"),
    Rule("Wasm.EntryModule.StorageSource", _MAPPED, "where content is named", _OTHER_SOURCE),
    Rule("Wasm.EntryModule.CID", _MAPPED, "the module", "no CID: BAD_CID"),
    Rule("Wasm.EntryModule.URL", _MAPPED, "the module, by the CID of a gateway's URL",
         "any other URL: SPEC_UNSUPPORTED"),
    Rule("Wasm.EntryModule.Name", _OVERRIDDEN, "not used"),
    Rule("Wasm.EntryModule.Path", _OVERRIDDEN, "not used"),
    Rule("Wasm.EntryModule.Metadata", _OVERRIDDEN, "not used"),
    *(
        Rule(f"Wasm.EntryModule.{name}", _MAPPED, "nothing", _ANYTHING)
        for name in ("Repo", "S3", "SourcePath", "ReadWrite")
    ),
    Rule("Wasm.EntryPoint", _MAPPED, "the function that is called", "other than _start: SPEC_UNSUPPORTED"),
    Rule("Wasm.Parameters", _MAPPED, "the arguments"),
    Rule("Wasm.EnvironmentVariables", _MAPPED, "the variables, an object"),
    Rule("Wasm.ImportModules", _MAPPED, "nothing", _ANYTHING),
    Rule("Language", _MAPPED, "nothing, as every section of another engine", "with anything in it: SPEC_INVALID_FIELD"),
    Rule("inputs[].StorageSource", _MAPPED, "where content is named", _OTHER_SOURCE),
    Rule("inputs[].CID", _MAPPED, "the input", "no CID: BAD_CID"),
    Rule("inputs[].URL", _MAPPED, "the input, by the CID of a gateway's URL, as a file of that name below its path",
         "any other URL, whose content can change: SPEC_UNSUPPORTED"),
    Rule("inputs[].Path", _MAPPED, "the input's path", "not /inputs or below, or in another's: SPEC_INVALID_FIELD"),
    Rule("inputs[].Name", _OVERRIDDEN, "not used"),
    Rule("inputs[].Metadata", _OVERRIDDEN, "not used"),
    *(
        Rule(f"inputs[].{name}", _MAPPED, "nothing", _ANYTHING)
        for name in ("Repo", "S3", "SourcePath", "ReadWrite")
    ),
    Rule("outputs[].Path", _MAPPED, "what is below /outputs is the output", "a path elsewhere: SPEC_UNSUPPORTED"),
    Rule("outputs[].Name", _MAPPED, "the output's folder", ""),
    Rule("outputs[].StorageSource", _OVERRIDDEN, "the output gets a CID", "a bucket: SPEC_UNSUPPORTED"),
    Rule("outputs[].Metadata", _OVERRIDDEN, "not used"),
    Rule("outputs[].ReadWrite", _OVERRIDDEN, "not used"),
    *(
        Rule(f"outputs[].{name}", _MAPPED, "nothing", "with anything in it: SPEC_INVALID_FIELD")
        for name in ("CID", "URL", "Repo", "S3", "SourcePath")
    ),
    Rule("Resources.CPU", _MAPPED, "cores (`500m`, `1.5`), rounded up and raised to the smallest limit",
         "words: SPEC_INVALID_FIELD; too much: LIMIT_OUT_OF_RANGE"),
    Rule("Resources.Memory", _MAPPED, "bytes (`512Mb`, `1 Gi`; units are powers of 1024), the same way", "the same"),
    Rule("Resources.Disk", _MAPPED, "bytes, the same way", "the same"),
    Rule("Resources.GPU", _MAPPED, "none", "any: SPEC_UNSUPPORTED"),
    Rule("Timeout", _MAPPED, "seconds, rounded up; absent or 0: 600",
         "below 0, or more than the largest limit: LIMIT_OUT_OF_RANGE"),
    Rule("Network.Type", _MAPPED, TYPE_WHY, "Full: SPEC_UNSUPPORTED"),
    Rule("Network.Domains", _MAPPED, DOMAINS_WHY, DOMAINS_REFUSED),
    Rule("Publisher", _OVERRIDDEN, "the bridge keeps the output", "a bucket: SPEC_UNSUPPORTED"),
    Rule("PublisherSpec.Type", _OVERRIDDEN, "the bridge keeps the output", "a bucket: SPEC_UNSUPPORTED"),
    Rule("PublisherSpec.Params", _MAPPED, "nothing", _ANYTHING),
    Rule("PublisherSpec.Config", _MAPPED, "nothing", _ANYTHING),
    Rule("Verifier", _MAPPED, "noop, or deterministic within the order's quorum",
         "Confidence, else more than half of Concurrency, above the quorum; other verifiers: SPEC_UNSUPPORTED"),
    Rule("Deal.Concurrency", _MAPPED, "the order says how many nodes run it"),
    Rule("Deal.Confidence", _MAPPED, "held against the order's quorum by a deterministic verifier"),
    Rule("Deal.MinBids", _OVERRIDDEN, "not used"),
    Rule("Deal.TargetingMode", _MAPPED, "any node that fits", "other than any: SPEC_UNSUPPORTED"),
    Rule("NodeSelectors", _MAPPED, "the selector",
         "a key or value that is no label's, an operator with the wrong number of values: SPEC_INVALID_FIELD"),
    Rule("Annotations", _OVERRIDDEN, "not used"),
    Rule("DoNotTrack", _OVERRIDDEN, "not used"),
    Rule("Sharding", _MAPPED, "nothing", _ANYTHING),
    Rule("Contexts", _MAPPED, "nothing", _ANYTHING),
)  # fmt: skip
