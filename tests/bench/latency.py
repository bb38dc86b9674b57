"""From a request in a block to its result in a block, the job's own time aside."""

import time

from bridge.chain.contracts import request_job_calldata
from bridge.jobs import JobState
from bridge.store.engine import reading
from bridge.store.jobs import jobs_in
from executor.protocol.wire import OnChainState
from tests.bench.chains import chain_of, folder_of, relaying
from tests.bench.runs import Prepared
from tests.chain_nodes import funded
from tests.integration.bridge_parts import post
from tests.integration.relayer_parts import ORDER, OUTCOME

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 30.0


def there_and_back(stack):
    """Listener, database and relayer at depth 0, against a loop that asks every 50 ms and sends the transaction."""
    folder = folder_of(stack)
    chain = chain_of(stack, folder)
    options = {"confirmation": 0, "posting": 0, "poll": POLL_SECONDS}
    parts = stack.enter_context(relaying(chain, folder / "bridge", 2, **options))
    while parts.listener.step():
        pass
    chain.automine()

    def prepare():
        before = chain.bridge.request_count()
        chain.mined(chain.send(funded(1), chain.deployment.bridge, request_job_calldata(ORDER), ORDER.price))
        return chain.request_of(before + 1, ORDER)

    def ours(request):
        time.sleep(POLL_SECONDS / 2)  # a request comes between two polls
        _until(chain, request, lambda: _step(parts, chain, request))

    def bare(request):
        time.sleep(POLL_SECONDS / 2)
        _until(chain, request, lambda: _ask_and_send(chain, request))

    return Prepared(prepare, ours), Prepared(prepare, bare)


def _until(chain, request, step):
    """Step until the contract has the result; wait where a step did nothing."""
    end = time.monotonic() + PATIENCE_SECONDS
    while chain.bridge.result_of(request.id).state == OnChainState.REQUESTED:
        assert time.monotonic() < end
        if not step():
            time.sleep(POLL_SECONDS)


def _step(parts, chain, request):
    parts.clock.now = time.time()
    busy = parts.listener.step()
    with reading(parts.engine) as connection:
        found = jobs_in(connection, [JobState.OBSERVED, JobState.READY])
    for job in found:
        if job.request_hash == request.hash:
            post(parts.engine, chain, request, OUTCOME, parts.relayer.address)
    return parts.relayer.step() or busy


def _ask_and_send(chain, request):
    if chain.bridge.request_count() < request.id:
        return False
    chain.send(funded(3), chain.deployment.bridge, chain.fulfil_data(request, OUTCOME, funded(3).address))
    return True
