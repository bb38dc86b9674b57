"""The compute node: the wire language, the content store, the sandbox, the audit, and the agent that pulls leases."""
