"""The bridge over HTTP: what nodes and uploaders sign, and what anybody may read."""
