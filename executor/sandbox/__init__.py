"""Runs one job: WebAssembly in a child process of its own, or a hardened container. Collects its outputs."""
