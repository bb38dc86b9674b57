/**
 * Writes tests/vectors/wire.json: orders, outcomes and attestations with every hash and signature over them.
 *
 * Each hash is computed by ethers and must equal what the deployed contracts answer, or nothing is written. The Python
 * side (executor/protocol/wire.py, signing.py) is checked against the file. Bytes are hexadecimal, uint64 and larger
 * are decimal strings. The same sources always give the same file.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { TypedDataEncoder, Wallet, ZeroAddress, ZeroHash } from "ethers";
import { network } from "hardhat";

import {
  type Anchor,
  attest,
  attestationDigest,
  bridgeDomain,
  CID,
  hex,
  labelHash,
  makeOrder,
  makeOutcome,
  NODE_KEY_TYPES,
  type Order,
  orderHash,
  type Outcome,
  outcomeHash,
  priceOf,
  registryDomain,
  repeated,
  requestHash,
  ResultKind,
  resultDigest,
  sortedLabels,
  Status,
} from "../test/helpers/wire.ts";

const TARGET = resolve(dirname(fileURLToPath(import.meta.url)), "../../tests/vectors/wire.json");
const CHAIN_ID = 31415926n;
const PRIVATE_KEY = repeated("46", 32);
const MAX_UINT128 = 2n ** 128n - 1n;
const MAX_UINT64 = 2n ** 64n - 1n;

interface Case {
  name: string;
  order: Order;
  outcome: Outcome;
  anchor: Anchor;
}

const anchor = (byte: string, change: Partial<Anchor> = {}): Anchor => ({
  receiptHash: repeated(byte, 32),
  logRoot: repeated("c0", 32),
  logSize: 7n,
  relayer: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
  ...change,
});

const EIGHT_LABELS = sortedLabels("a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g/h.i=J_k-L.9", "empty=");

const CASES: Case[] = [
  {
    name: "no labels, no curator, no callback, nothing paid",
    order: makeOrder({ unitPrice: 0n, failPrice: 0n, deliveryFee: 0n }),
    outcome: makeOutcome(),
    anchor: anchor("11"),
  },
  {
    name: "eight labels of a curator, exact standard output",
    order: makeOrder({
      resultKind: ResultKind.StdOut,
      curator: "curator",
      labels: EIGHT_LABELS,
      callback: "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
      callbackGas: 250_000n,
    }),
    outcome: makeOutcome({ payload: hex("2026-11-23 two wagons\n") }),
    anchor: anchor("22", { logSize: MAX_UINT64 }),
  },
  {
    name: "failed with a negative exit code",
    order: makeOrder({ resultKind: ResultKind.ExitCode, curator: "curator", labels: [labelHash("gpu=a100")] }),
    outcome: makeOutcome({ status: Status.Failed, reason: 212, exitCode: -9, payload: hex("-9") }),
    anchor: anchor("33", { receiptHash: ZeroHash, logRoot: ZeroHash, logSize: 0n, relayer: ZeroAddress }),
  },
  {
    name: "largest prices",
    order: makeOrder({ unitPrice: MAX_UINT128, failPrice: MAX_UINT128, deliveryFee: MAX_UINT128 }),
    outcome: makeOutcome({ status: Status.Failed, reason: 65_535, exitCode: 2_147_483_647, outputCid: "0x" }),
    anchor: anchor("44"),
  },
  {
    name: "spec that is not UTF-8, refused",
    order: makeOrder({ dialect: 4, spec: "0xff00fe80c328" }),
    outcome: makeOutcome({ status: Status.Refused, reason: 100, outputCid: "0x" }),
    anchor: anchor("55"),
  },
  {
    name: "spec by CID, sixteen nodes, withheld",
    order: makeOrder({ dialect: 2, specIsCid: true, spec: CID, nodes: 16, quorum: 9, ttl: 86_400 }),
    outcome: makeOutcome({ status: Status.Withheld, reason: 300, outputCid: "0x" }),
    anchor: anchor("66"),
  },
  {
    name: "lowest exit code, longest CID, payload of every byte",
    order: makeOrder({ resultKind: ResultKind.StdErr, spec: repeated("20", 33) }),
    outcome: makeOutcome({
      status: Status.Failed,
      reason: 200,
      exitCode: -2_147_483_648,
      outputCid: repeated("01", 64),
      payload: `0x${Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString("hex")}`,
    }),
    anchor: anchor("77"),
  },
];

function mustEqual(name: string, ours: unknown, onChain: unknown): void {
  if (ours !== onChain) throw new Error(`${name}: ethers gives ${ours}, the contract ${onChain}`);
}

const { ethers, networkHelpers } = await network.create({
  override: { chainId: Number(CHAIN_ID), hardfork: "cancun" },
});
const [deployer, requester, operator, curator] = await ethers.getSigners();
const registry = await ethers.deployContract("NodeRegistry", [3600, 8 * 86_400], deployer);
const bridge = await ethers.deployContract("ComputeBridge", [registry, 60, 86_400, 600, deployer], deployer);
const bridgeAt = await bridge.getAddress();
const registryAt = await registry.getAddress();
const key = new Wallet(PRIVATE_KEY);
const domain = bridgeDomain(CHAIN_ID, bridgeAt);
await networkHelpers.setBalance(requester.address, 2n ** 140n);

async function nodeKeys() {
  const made = [];
  const rows: [bigint, bigint][] = [[1n, 0n], [1n, 1n], [2n ** 200n, 3n]];
  for (const [nodeId, nonce] of rows) {
    const message = { operator: operator.address, nodeId, nonce };
    const signature = await key.signTypedData(registryDomain(CHAIN_ID, registryAt), NODE_KEY_TYPES, message);
    const digest = TypedDataEncoder.hash(registryDomain(CHAIN_ID, registryAt), NODE_KEY_TYPES, message);
    made.push({ operator: operator.address, nodeId: `${nodeId}`, nonce: `${nonce}`, digest, signature });
  }
  await registry.connect(operator).register([], "");
  await registry.connect(operator).joinKey(1, key.address, made[0].signature);
  mustEqual("signer of the node key", key.address, (await registry.nodeOf(1)).key);
  return made;
}

async function vector(id: bigint, { name, order: asked, outcome, anchor: anchored }: Case) {
  const order = { ...asked, curator: asked.curator === "curator" ? curator.address : asked.curator };
  if (order.labels.length > 0) await registry.connect(curator).vouch(1, order.labels);
  await bridge.connect(requester).requestJob(order, { value: priceOf(order) });
  const request = requestHash(CHAIN_ID, bridgeAt, id, requester.address, order);
  mustEqual(`request hash of "${name}"`, request, await bridge.requestHash(id));
  const attestation = await attest(key, domain, request, outcome, anchored);
  const digest = resultDigest(request, outcomeHash(outcome));
  if (order.quorum === 1) {
    await bridge.fulfil(id, order, outcome, [attestation]);
    mustEqual(`digest of "${name}"`, digest, (await bridge.resultOf(id)).digest);
  }
  return {
    name,
    id: `${id}`,
    requester: requester.address,
    order,
    encodedOrderHash: orderHash(order),
    requestHash: request,
    outcome,
    outcomeHash: outcomeHash(outcome),
    resultDigest: digest,
    attestation,
    attestationDigest: attestationDigest(domain, request, outcomeHash(outcome), anchored),
  };
}

const keys = await nodeKeys();
const cases = [];
for (const [index, row] of CASES.entries()) cases.push(await vector(BigInt(index + 1), row));
const vectors = {
  about: "Made by hardhat/scripts/export-vectors.ts from Solidity and ethers. Bytes are hex, uint64 and larger decimal.",
  chainId: Number(CHAIN_ID),
  computeBridge: bridgeAt,
  nodeRegistry: registryAt,
  privateKey: PRIVATE_KEY,
  signer: key.address,
  cases,
  nodeKeys: keys,
};
mkdirSync(dirname(TARGET), { recursive: true });
const text = JSON.stringify(vectors, (_, value) => (typeof value === "bigint" ? `${value}` : value), 2);
writeFileSync(TARGET, `${text}\n`);
