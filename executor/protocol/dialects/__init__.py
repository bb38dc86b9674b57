"""Specs in the formats of other systems, converted into `insula/v1` by pure functions."""
