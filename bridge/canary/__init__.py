"""The canary: fresh content and whole jobs through a running bridge, measured, judged and cleaned up again."""
