"""One anvil for all scenarios, taken back to the same state before each; and rigs on it."""

from contextlib import ExitStack

import pytest

from bridge.chain.deploy import Deployment
from tests.chain_nodes import DevChain, anvil_node
from tests.scenarios.rig import Rig


class World:
    """An anvil with contracts and two nodes, and the snapshot of that state."""

    def __init__(self, client):
        self.chain = DevChain(client, Deployment("", "", "", 0, ""), "anvil")
        self.chain.automine()
        self.chain.deploy_again()
        self.chain.manual()
        self.chain.mine(2)
        self._snapshot = self.chain.snapshot()

    def fresh(self):
        """The chain as it was at first."""
        self.chain.client.ask("anvil_dropAllTransactions")
        self.chain.revert(self._snapshot)
        self._snapshot = self.chain.snapshot()
        return self.chain


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Remembers whether the test's own part failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def _world(tmp_path_factory):
    with anvil_node(tmp_path_factory.mktemp("scenarios"), states=20_000) as client:
        yield World(client)


@pytest.fixture
def chain(_world):
    """An anvil with contracts and two nodes; mines only when told."""
    return _world.fresh()


@pytest.fixture
def scenario(chain, tmp_path, request):
    """Makes rigs on the chain: `scenario(null_epochs=(30,), finality=6)`. Each must end in `rests` or `halted`."""
    made = []
    with ExitStack() as stack:

        def make(**settings):
            rig = Rig(chain, tmp_path, stack, **settings)
            made.append(rig)
            return rig

        yield make
        assert request.node.stash[FAILED] or all(rig.judged for rig in made), "a scenario ends with rests() or halted()"
