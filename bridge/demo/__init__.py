"""The demo: programs, data and the main job, end to end."""
