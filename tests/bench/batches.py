"""Results relayed in batches, against one transaction for each."""

from bridge.store import outbox
from bridge.store.engine import reading
from bridge.store.outbox import SendState
from tests.bench.chains import chain_of, folder_of, relaying
from tests.bench.runs import Prepared

RESULTS = 100
BATCH = 50
MAX_STEPS = 1000


def relay(stack):
    """The same number of results at an anvil that mines each transaction at once, until the contract has all."""
    folder = folder_of(stack)
    chain = chain_of(stack, folder)
    sides = [
        stack.enter_context(relaying(chain, folder / f"by{size}", account, max_batch=size))
        for size, account in ((BATCH, 2), (1, 3))
    ]

    def side(parts):
        def prepare():
            chain.manual()
            parts.posting(RESULTS)
            chain.automine()

        def act(_):
            for _ in range(MAX_STEPS):
                parts.relayer.step()
                with reading(parts.engine) as connection:
                    if all(item.state is SendState.DONE for item in outbox.work(connection)):
                        return
            raise AssertionError("the contract has not all results")

        return Prepared(prepare, act)

    return side(sides[0]), side(sides[1])
