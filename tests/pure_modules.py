"""The modules that hold decisions and no I/O: no clock, no random, no network, no file. Covered to 100 %.

`python -m tests.pure_modules` prints them as coverage's --include list.
"""

PURE = (
    "bridge/jobs.py",
    "bridge/routing.py",
    "bridge/chain/budget.py",
    "bridge/chain/bulk.py",
    "bridge/chain/cursor.py",
    "bridge/chain/endpoint_health.py",
    "bridge/chain/events.py",
    "bridge/chain/fees.py",
    "bridge/chain/ranges.py",
    "bridge/chain/rpc_errors.py",
    "bridge/chain/sendstate.py",
    "bridge/chain/shapes.py",
    "executor/agent/outcome.py",
    "executor/audit/policy.py",
    "executor/audit/rules.py",
    "executor/content/car.py",
    "executor/content/dagpb.py",
    "executor/content/hamt.py",
    "executor/content/limits.py",
    "executor/content/murmur3.py",
    "executor/content/protobuf.py",
    "executor/content/unixfs_node.py",
    "executor/content/varint.py",
    "executor/protocol/abiwords.py",
    "executor/protocol/canonical.py",
    "executor/protocol/cid.py",
    "executor/protocol/keccak.py",
    "executor/protocol/labels.py",
    "executor/protocol/leases.py",
    "executor/protocol/merkle.py",
    "executor/protocol/nodeauth.py",
    "executor/protocol/reasons.py",
    "executor/protocol/receipt.py",
    "executor/protocol/spec.py",
    "executor/protocol/wire.py",
)

if __name__ == "__main__":
    print(",".join(PURE))
