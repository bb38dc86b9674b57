"""Time that passes only when somebody waits."""


class PausedClock:
    """Called, it tells the time, from 0 on; `pause` moves it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.now += seconds
