"""The relayer on real chains: deliveries that go well, get lost, are refused, race, and leave the chain again."""

import pytest

from bridge.jobs import JobState
from bridge.listener import Listener
from bridge.relayer import Relayer
from bridge.store.outbox import SendState
from executor.protocol.wire import OnChainState, Order, Outcome
from tests.chain_nodes import funded
from tests.integration.bridge_parts import Clock, attempts, config_for, item, job, new_engine, post, run

pytestmark = pytest.mark.chain

ORDER = Order(spec=b'{"version":"insula/v1"}', ttl=3600, unit_price=1000, delivery_fee=7)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
OTHER = Outcome(status=2, reason=200, exit_code=1)


class Parts:
    """A listener and a relayer over one database, on one chain, with a clock of their own."""

    def __init__(self, chain, folder, **relayer):
        self.chain, self.folder, self.clock = chain, folder, Clock()
        self.engine = new_engine(folder)
        self.config = config_for(chain, folder, **relayer)
        self.restart()

    def restart(self):
        """New objects on the same database: what a new process would have."""
        self.listener = Listener(self.engine, self.chain.client, self.config, self.clock)
        self.relayer = Relayer(self.engine, self.chain.client, funded(2), self.config, self.clock)

    def posting(self, order=ORDER, outcome=OUTCOME):
        """A request that is deep enough, with its delivery in the outbox."""
        request = self.chain.request(funded(1), order)
        self.chain.mine()
        run(self.listener)
        post(self.engine, self.chain, request, outcome, self.relayer.address)
        return request

    def mine(self, blocks=1):
        """Mine, and let both loops come to rest."""
        self.chain.mine(blocks)
        run(self.listener)
        run(self.relayer)


@pytest.fixture
def parts(any_chain, tmp_path):
    return Parts(any_chain, tmp_path)


def test_a_delivery_is_sent_mined_and_done_and_its_job_final(parts):
    request = parts.posting()
    run(parts.relayer)
    assert item(parts.engine, request.hash).state is SendState.SENT

    parts.mine()
    assert item(parts.engine, request.hash).state is SendState.DONE
    assert job(parts.engine, request.hash).state is JobState.POSTED
    parts.mine(3)
    assert job(parts.engine, request.hash).state is JobState.FINAL
    assert parts.chain.bridge.result_of(request.id).state is OnChainState.FULFILLED
    assert parts.chain.bridge.credit_of(parts.relayer.address) == 7
    assert len(attempts(parts.engine, request.hash)) == 1
