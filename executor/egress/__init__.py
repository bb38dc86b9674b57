"""A job's only way out: an audited proxy to the destinations that its spec names and the operator grants."""
