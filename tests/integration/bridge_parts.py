"""A bridge's database and configuration for tests, and small readers of them."""

from bridge.config import BridgeConfig
from bridge.jobs import JobState
from bridge.store import outbox
from bridge.store.engine import open_engine, reading, transaction
from bridge.store.jobs import get_job, jobs_in, move_job
from bridge.store.schema import metadata

MAX_STEPS = 200
_engines = []


def new_engine(folder):
    """An empty database in a folder. Its connections are closed after the test."""
    engine = open_engine(f"sqlite:///{folder / 'bridge.db'}")
    with transaction(engine) as connection:
        metadata.create_all(connection)
    _engines.append(engine)
    return engine


def close_engines():
    """Close the connections of all engines made here."""
    while _engines:
        _engines.pop().dispose()


def config_for(chain, folder, *, confirmation=1, posting=1, finality=3, poll=10.0, **relayer):
    """The configuration of a bridge for a chain's newest deployment."""
    return BridgeConfig.model_validate(
        {
            "data_dir": str(folder),
            "public_url": "http://127.0.0.1:8040",
            "chain": {
                "rpc_urls": ["http://127.0.0.1:1"],
                "chain_id": 31415926,
                "bridge_contract": chain.deployment.bridge,
                "deploy_block": chain.deployment.deploy_block,
                "confirmation_depth": confirmation,
                "posting_depth": posting,
                "finality_depth": finality,
                "poll_seconds": poll,
            },
            "relayer": {"key": "env:UNUSED", **relayer},
        }
    )


def run(loop):
    """Step until there is nothing to do; how many steps did something."""
    for count in range(MAX_STEPS):
        if not loop.step():
            return count
    raise AssertionError("the loop does not come to rest")


def job(engine, request_hash):
    """The job of a request hash, or None."""
    with reading(engine) as connection:
        return get_job(connection, request_hash)


WAY_TO_POSTING = (
    JobState.READY,
    JobState.RUNNING,
    JobState.ATTESTED,
    JobState.STORED,
    JobState.POSTING,
)


def post(engine, chain, request, outcome, relayer_address, now=1000.0):
    """What the dispatcher does once a quorum agrees: the job is POSTING and its delivery in the outbox."""
    with transaction(engine) as connection:
        state = get_job(connection, request.hash).state
        way = WAY_TO_POSTING if state is JobState.OBSERVED else WAY_TO_POSTING[WAY_TO_POSTING.index(state) + 1 :]
        for after in way:
            move_job(connection, request.hash, state, after, now)
            state = after
        calldata = chain.fulfil_data(request, outcome, relayer_address)
        outbox.enqueue(connection, request.hash, "fulfil", calldata, now)


def item(engine, request_hash, kind="fulfil"):
    """The outbox row of a delivery, or None."""
    with reading(engine) as connection:
        return outbox.find(connection, request_hash, kind)


def attempts(engine, request_hash, kind="fulfil"):
    """All transactions of a delivery."""
    with reading(engine) as connection:
        found = outbox.find(connection, request_hash, kind)
        return outbox.attempts_of(connection, found.id) if found else []


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def jobs_now(engine):
    """All jobs, by request hash."""
    with reading(engine) as connection:
        return {found.request_hash: found for found in jobs_in(connection, list(JobState))}
