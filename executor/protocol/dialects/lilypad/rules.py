"""What becomes of each field of a Lilypad module: the table in docs/spec.md, and the reasons in a report. Pure."""

from __future__ import annotations

from executor.protocol.dialects.conversion import Action, Rule

_MAPPED, _OVERRIDDEN = Action.MAPPED, Action.OVERRIDDEN
_ANYTHING = "with anything in it: SPEC_UNSUPPORTED"

#: of what stands around a module's text
ORDER = (
    Rule("inputs", _MAPPED, "filled into the module's text, as JSON strings",
         "missing: SPEC_MISSING_FIELD; not asked for: SPEC_UNKNOWN_FIELD"),
)  # fmt: skip

#: of a module, beside its job, whose Spec is one of V1beta's
MODULE = (
    Rule("machine.gpu", _MAPPED, "none", "any: SPEC_UNSUPPORTED"),
    Rule("machine.gpus", _MAPPED, "none", "any: SPEC_UNSUPPORTED"),
    Rule("machine.cpu", _MAPPED,
         "thousandths of a core, where the job's Resources say nothing; raised to the smallest limit",
         "too much: LIMIT_OUT_OF_RANGE"),
    Rule("machine.ram", _MAPPED, "megabytes of 2^20, the same way", "the same"),
    Rule("machine.disk", _MAPPED, "megabytes of 2^20, the same way", "the same"),
    Rule("executionTimeoutSeconds", _MAPPED,
         "the wall limit, unless the job's Timeout is shorter; absent or 0: the Timeout",
         "more than the largest limit: LIMIT_OUT_OF_RANGE"),
    Rule("inputFiles.required", _MAPPED, "nothing", _ANYTHING),
    Rule("inputFiles.optional", _OVERRIDDEN, "not used: the job's inputs are all that it gets"),
    Rule("author", _OVERRIDDEN, "not used"),
    Rule("description", _OVERRIDDEN, "not used"),
    Rule("image", _OVERRIDDEN, "not used: the job names its image"),
    Rule("model", _OVERRIDDEN, "not used"),
)  # fmt: skip
