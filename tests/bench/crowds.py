"""A long history on an anvil: blocks full of ComputeBridge's logs, from a few instructions of EVM code in its place.

anvil hashes all storage anew for each block, so the real contract, which keeps two slots of each request, would take
hours. The code here keeps nothing and emits the logs that it is given: the endpoint's answers are the same. It stands
here byte by byte, so that no benchmark needs a Solidity compiler.
"""

from bridge.chain.contracts import compute_bridge
from executor.protocol.keccak import keccak
from executor.protocol.wire import Order, Outcome
from tests.chain_nodes import CHAIN_ID, funded

CONTRACT = "0x00000000000000000000000000000000C0FfEe01"
#: calldata: logs one after the other, each: size of its data (32 bytes), four topics, data
CODE = bytes.fromhex(
    "5f5b368110600957005b"  # from 0 (at 0x01) while below calldatasize, else stop
    "8035808260a0015f37"  # the data to memory 0
    "8160800135826060013583604001358460200135"  # topics 3, 2, 1, 0
    "845fa4"  # log4
    "60a00101600156"  # on to the next
)
#: about as long as real ones are
ORDER = Order(spec=b'{"version":"insula/v1","engine":{"type":"wasm"}}'.ljust(260), ttl=3600, unit_price=1000)
OUTCOME = Outcome(status=1, output_cid=bytes.fromhex("01551220") + b"\xab" * 32)
_ORDER, _OUTCOME = ORDER.encode(), OUTCOME.encode()
_REQUESTED, _SETTLED = (compute_bridge().event_topic(name) for name in ("JobRequested", "JobSettled"))


def crowd(client, blocks, jobs, *, first=1):
    """`blocks` blocks with `jobs` requests each, and their results in the block after; one more block in the end.

    On an anvil that mines only when told. first: the first request's id.
    """
    client.ask("anvil_setCode", CONTRACT, "0x" + CODE.hex())
    call = {"from": funded(1).address, "to": CONTRACT, "gas": hex(10_000_000)}
    before = ()
    for block in range(blocks + 1):
        new = () if block == blocks else range(first + block * jobs, first + (block + 1) * jobs)
        data = b"".join([_requested(n) for n in new] + [_settled(n) for n in before])
        client.ask("eth_sendTransaction", {**call, "data": "0x" + data.hex()})
        client.ask("evm_mine")
        before = new


def _word(number):
    return number.to_bytes(32, "big")


def _account():
    return bytes(12) + bytes.fromhex(funded(1).address[2:])


def _hash(request_id):
    contract = bytes(12) + bytes.fromhex(CONTRACT[2:])
    return keccak(b"".join((_word(CHAIN_ID), contract, _word(request_id), _account(), keccak(_ORDER))))


def _log(topics, data):
    return b"".join((_word(len(data)), *topics, data))


def _requested(request_id):
    topics = (_REQUESTED, _word(request_id), _hash(request_id), _account())
    return _log(topics, _word(1_800_000_000) + _word(64) + _ORDER[32:])


def _settled(request_id):
    topics = (_SETTLED, _word(request_id), _hash(request_id), _word(2))
    return _log(topics, keccak(_OUTCOME) + _account() + _word(96) + _OUTCOME[32:])
