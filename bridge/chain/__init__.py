"""The chain side: reading it, deciding on it, writing to it."""
