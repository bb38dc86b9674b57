"""A relayer in a process of its own, for S66: one JSON request a line on stdin, one JSON answer a line on stdout.

{"config": ..., "url": ..., "secret": ..., "owner": ...} first, then {"now": seconds}: step until nothing moves.
"""

import json
import sys

from bridge.chain.client import ChainClient
from bridge.chain.signer import TxSigner
from bridge.config import BridgeConfig
from bridge.relayer import Relayer
from bridge.store.engine import open_engine
from bridge.watch import Watch


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


def main():
    """Serve until stdin ends."""
    given = json.loads(sys.stdin.readline())
    config = BridgeConfig.model_validate(given["config"])
    clock, watch = _Clock(), Watch()
    with ChainClient(given["url"], 10.0) as client:
        engine = open_engine(config.database)
        signer = TxSigner.from_hex(given["secret"])
        relayer = Relayer(engine, client, signer, config, clock, watch=watch, owner=given["owner"])
        for line in sys.stdin:
            clock.now = json.loads(line)["now"]
            moved = 0
            while relayer.step():
                moved += 1
            alarms = [raised.alarm.value for raised in watch.alarms() if raised.over_at is None]
            sys.stdout.write("answer " + json.dumps({"moved": moved, "alarms": alarms}) + "\n")
            sys.stdout.flush()
        engine.dispose()


if __name__ == "__main__":
    main()
