"""Benchmarks: ratios against a named baseline that is measured in the same run. `./dev bench` prints them."""
