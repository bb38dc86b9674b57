"""The wire language that bridge, nodes and verifiers share: pure functions, no I/O, no clock, no random."""
