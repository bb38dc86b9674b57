"""The personality of a devnet: in front of its chain, with a line for everything that it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from bridge.devnet.chaos.epochs import EpochMap
from bridge.devnet.chaos.personality import Act, Personality
from bridge.devnet.chaos.server import serve
from bridge.devnet.chaos.settings import Settings


@dataclass(frozen=True)
class Depths:
    """The depths of a bridge's configuration, in epochs."""

    confirmation: int = 1
    posting: int = 1
    finality: int = 3


def depths_for(settings: Settings, epochs: EpochMap) -> Depths:
    """Depths at which nothing dies any more, whatever these settings do."""
    dying = settings.reorg_depth + 1 if settings.reorg else 0
    apart = settings.stale_lag * bool(settings.stale_heads) + settings.fork_depth * bool(settings.forked_heads)
    confirmation = max(1, epochs.widest(dying)) if dying else 1
    return Depths(confirmation, confirmation, 2 + epochs.widest(1 + dying + apart))


class ChaosRun:
    """Use as a context manager; `front` starts it. Leaving it stops it and says what it did in all."""

    def __init__(self, settings: Settings, seed: int, log: Path, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.seed = seed
        self.epochs = EpochMap(seed, settings.null_rounds, settings.null_run, settings.null_epochs)
        self._log_path = log
        self._say = say
        self._started = time.monotonic()
        self._stack = ExitStack()
        self._log: TextIO | None = None
        self._personality: Personality | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if self._personality is not None:
            for line in self.summary():
                self._say(line)

    @property
    def depths(self) -> Depths:
        """The depths for a bridge behind it."""
        return depths_for(self.settings, self.epochs)

    def front(self, rpc_url: str) -> str:
        """Stand in front of a node; the URL to use instead of its own."""
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._stack.enter_context(self._log_path.open("a", buffering=1))
        self._personality = Personality(rpc_url, self.settings, self.seed, listen=self._heard)
        return self._stack.enter_context(serve(self._personality))

    def introduction(self, rpc_url: str) -> list[str]:
        """What is in front of the node: every setting that is not at rest, and what the bridge is told to wait for."""
        changed = self.settings.model_dump(exclude_defaults=True)
        words = ", ".join(name if value is True else f"{name} {value}" for name, value in changed.items())
        depths = self.depths
        return [
            f"with the habits of a Filecoin endpoint and seed {self.seed} in front of it, at {rpc_url}:",
            f"  {words or 'nothing is changed'}",
            f"  the bridge waits for {depths.confirmation} blocks on a request, {depths.finality} on a result",
        ]

    def summary(self) -> list[str]:
        """How often each fault happened, most often first."""
        counts = self._personality.counts.most_common() if self._personality else []
        return [f"chaos with seed {self.seed}, in all:", *(f"  {kind:<18} {count:>6}" for kind, count in counts)]

    def _heard(self, act: Act) -> None:
        line = " ".join(word for word in (act.kind, act.method, act.detail) if word)
        if self._log is not None:
            self._log.write(f"{time.monotonic() - self._started:9.3f} {line}\n")
        self._say(f"chaos: {line}")
