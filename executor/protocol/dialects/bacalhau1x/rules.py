"""What becomes of each field of a Bacalhau 1.x job: the table in docs/spec.md, and the reasons in a report. Pure."""

from __future__ import annotations

from executor.protocol.dialects.conversion import Action, Rule
from executor.protocol.dialects.networks import DOMAINS_REFUSED, DOMAINS_WHY, TYPE_WHY

_MAPPED, _OVERRIDDEN = Action.MAPPED, Action.OVERRIDDEN
_OTHER_SOURCE = "other than IPFS and URLDownload: SPEC_UNSUPPORTED"
_ANYTHING = "with anything in it: SPEC_UNSUPPORTED"
_GATEWAY = "the content, by the CID of a gateway's URL"
_PARAMS = "Tasks[].Engine.Params."
_MODULE = f"{_PARAMS}EntryModule."
_INPUT = "Tasks[].InputSources[]."


def _source(prefix: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{prefix}Source.Type", _MAPPED, "where content is named", _OTHER_SOURCE),
        Rule(f"{prefix}Source.Params.CID", _MAPPED, "the content", "no CID: BAD_CID"),
        Rule(f"{prefix}Source.Params.URL", _MAPPED, _GATEWAY, "any other URL: SPEC_UNSUPPORTED"),
    )


JOB = (
    Rule("Type", _MAPPED, "batch", "ops, daemon, service: SPEC_UNSUPPORTED"),
    Rule("Count", _MAPPED, "the order says how many nodes run it"),
    Rule("Priority", _OVERRIDDEN, "not used"),
    Rule("Constraints", _MAPPED, "the selector: every requirement holds",
         "a key or value that is no label's, an operator with the wrong number of values: SPEC_INVALID_FIELD"),
    *(
        Rule(name, _OVERRIDDEN, "not used")
        for name in ("ID", "Name", "Namespace", "Meta", "Labels", "State", "Version", "Revision", "CreateTime",
                     "ModifyTime")
    ),
    Rule("Tasks[].Name", _OVERRIDDEN, "not used"),
    Rule("Tasks[].Meta", _OVERRIDDEN, "not used"),
    Rule("Tasks[].Engine.Type", _MAPPED, "docker or wasm", "every other engine: UNKNOWN_ENGINE"),
    Rule(f"{_PARAMS}Image", _MAPPED, "the image",
         "a tag, which can change (write name@sha256:...): SPEC_INVALID_FIELD"),
    Rule(f"{_PARAMS}Entrypoint", _MAPPED, "docker: the entrypoint, without one the image's own; wasm: the function",
         "wasm: other than _start: SPEC_UNSUPPORTED"),
    Rule(f"{_PARAMS}Parameters", _MAPPED, "the arguments"),
    Rule(f"{_PARAMS}EnvironmentVariables", _MAPPED, "the variables: docker, A=1 each; wasm, an object",
         "a name twice: SPEC_DUPLICATE_KEY; env:NAME: SPEC_UNSUPPORTED"),
    Rule(f"{_PARAMS}WorkingDirectory", _MAPPED, "the working directory; without one /, not the image's own"),
    Rule(f"{_PARAMS}EntryModule", _MAPPED, "the module, by the alias or target of an input source",
         "of none, or of several: SPEC_INVALID_FIELD"),
    *_source(_MODULE),
    Rule(f"{_MODULE}Alias", _OVERRIDDEN, "not used"),
    Rule(f"{_MODULE}Target", _OVERRIDDEN, "not used"),
    Rule(f"{_PARAMS}ImportModules", _MAPPED, "nothing", _ANYTHING),
    Rule("Tasks[].Env", _MAPPED, "the variables, beside the engine's",
         "a name that the engine's have: SPEC_DUPLICATE_KEY; env:NAME, a variable of the node: SPEC_UNSUPPORTED"),
    *_source(_INPUT),
    Rule(f"{_INPUT}Alias", _MAPPED, "a name for EntryModule"),
    Rule(f"{_INPUT}Target", _MAPPED, "the input's path; a gateway's file lies below it, under its CID",
         "not /inputs or below, unless it is the module's; in another's: SPEC_INVALID_FIELD"),
    Rule("Tasks[].ResultPaths[].Path", _MAPPED, "what is below /outputs is the output",
         "a path elsewhere: SPEC_UNSUPPORTED"),
    Rule("Tasks[].ResultPaths[].Name", _MAPPED, "the output's folder"),
    Rule("Tasks[].Publisher.Type", _OVERRIDDEN, "the bridge keeps the output", "s3: SPEC_UNSUPPORTED"),
    Rule("Tasks[].Publisher.Params", _MAPPED, "nothing", _ANYTHING),
    Rule("Tasks[].Resources.CPU", _MAPPED, "cores (`500m`, `1.5`), rounded up and raised to the smallest limit",
         "words, numbers without quotes: SPEC_INVALID_FIELD; too much: LIMIT_OUT_OF_RANGE"),
    Rule("Tasks[].Resources.Memory", _MAPPED, "bytes (`512mb`, `1Gi`; units are powers of 1024), the same way",
         "the same"),
    Rule("Tasks[].Resources.Disk", _MAPPED, "bytes, the same way", "the same"),
    Rule("Tasks[].Resources.GPU", _MAPPED, "none", "any: SPEC_UNSUPPORTED"),
    Rule("Tasks[].Network.Type", _MAPPED, TYPE_WHY, "Host, Full, Bridge: SPEC_UNSUPPORTED"),
    Rule("Tasks[].Network.Domains", _MAPPED, DOMAINS_WHY, DOMAINS_REFUSED),
    Rule("Tasks[].Network.Ports", _MAPPED, "nothing", _ANYTHING),
    Rule("Tasks[].Timeouts.ExecutionTimeout", _MAPPED, "seconds; absent or 0: 600",
         "below 0, or more than the largest limit: LIMIT_OUT_OF_RANGE"),
    Rule("Tasks[].Timeouts.QueueTimeout", _OVERRIDDEN, "not used: the order says until when it waits"),
    Rule("Tasks[].Timeouts.TotalTimeout", _OVERRIDDEN, "not used: the order says until when it waits"),
)  # fmt: skip
