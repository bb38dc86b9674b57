"""Decoding logs, one by one."""


def decode_logs(stack):
    """2 000 JobRequested logs decoded by us against web3's contract events."""
    import json
    from importlib import resources

    from eth_abi import abi
    from eth_utils.crypto import keccak
    from hexbytes import HexBytes
    from web3 import Web3

    from bridge.chain.client import Log
    from bridge.chain.contracts import compute_bridge
    from bridge.chain.events import decode_log
    from executor.protocol.wire import ORDER_TYPE, Order, request_hash

    contract, requester = "0x" + "11" * 20, "0x" + "22" * 20
    order = Order(spec=b'{"version":"insula/v1"}' * 10, ttl=600)
    logs = []
    for n in range(1, 2001):
        topics = (
            compute_bridge().event_topic("JobRequested"),
            n.to_bytes(32, "big"),
            request_hash(314, contract, n, requester, order),
            bytes(12) + bytes.fromhex(requester[2:]),
        )
        data = abi.encode(["uint64", ORDER_TYPE], [1_800_000_000, order.as_tuple()])
        logs.append(Log(contract, topics, data, n, keccak(text=f"b{n}"), keccak(text=f"t{n}")))
    exported = json.loads(resources.files("bridge.chain").joinpath("abi", "ComputeBridge.json").read_text())
    event = Web3().eth.contract(address=Web3.to_checksum_address(contract), abi=exported["abi"]).events.JobRequested()
    raw = [
        {
            "address": Web3.to_checksum_address(contract), "topics": [HexBytes(t) for t in log.topics],
            "data": HexBytes(log.data), "blockNumber": log.block_number, "blockHash": HexBytes(log.block_hash),
            "transactionHash": HexBytes(log.tx_hash), "transactionIndex": 0, "logIndex": 0, "removed": False,
        }
        for log in logs
    ]  # fmt: skip
    return lambda: [decode_log(log, 314) for log in logs], lambda: [event.process_log(log) for log in raw]
