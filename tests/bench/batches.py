"""Results relayed in batches, against one transaction for each."""

from bridge.store.outbox import SendState
from tests.bench.chains import chain_of, folder_of, relaying
from tests.bench.runs import Prepared

RESULTS = 50
MAX_STEPS = 1000


def relay(stack):
    """The same number of results at an anvil that mines each transaction at once, until the contract has all."""
    folder = folder_of(stack)
    chain = chain_of(stack, folder)
    sides = [
        stack.enter_context(relaying(chain, folder / f"by{size}", account, max_batch=size))
        for size, account in ((RESULTS, 2), (1, 3))
    ]

    def side(parts):
        def prepare():
            chain.manual()
            requests = parts.posting(RESULTS)
            chain.automine()
            return requests

        def act(requests):
            for _ in range(MAX_STEPS):
                parts.relayer.step()
                if set(parts.states(requests)) == {SendState.DONE}:
                    return
            raise AssertionError(parts.states(requests))

        return Prepared(prepare, act)

    return side(sides[0]), side(sides[1])
