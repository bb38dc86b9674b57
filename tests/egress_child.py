"""The proxy's process with another world: one name, on loopback. See `executor.egress.gate.Gates.bootstrap`."""

from executor.egress.child import main
from tests.egress_kit import HOST, world_of

BOOTSTRAP = "import sys; sys.path.append(sys.argv[1]); from tests.egress_child import run; run()"


def run():
    main(world_of({HOST: ["127.0.0.1"], "inner.example.org": ["10.0.0.1"]}))
