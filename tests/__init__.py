"""Tests: the specification of Insula. unit/ and property/ need nothing; the rest runs on real parts."""
