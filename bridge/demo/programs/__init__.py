"""The demo's programs: C sources, their WebAssembly, and `build.py`, which makes the one from the other again."""
