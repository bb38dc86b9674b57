"""The real listener, store and relayer against a simulated chain, from seeds: `python -m tests.simulation --help`."""
