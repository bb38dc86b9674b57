"""The compute node: asks a bridge for work, runs it, signs what came out. Speaks HTTP, never imports the bridge."""
