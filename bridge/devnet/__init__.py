"""A whole Insula on one machine: a chain, the contracts, a bridge and labelled nodes, each a process of its own."""
