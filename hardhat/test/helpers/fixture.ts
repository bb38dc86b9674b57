/** One deployed system: a registry, a bridge, four operators' nodes, a curator's word. */
import type { HardhatEthersSigner } from "@nomicfoundation/hardhat-ethers/types";
import { type BaseWallet, id as keccakText, Wallet } from "ethers";
import { network } from "hardhat";

import {
  type Anchor,
  attest,
  type Attestation,
  bridgeDomain,
  labelHash,
  NODE_KEY_TYPES,
  type Order,
  type Outcome,
  plainOrder,
  priceOf,
  registryDomain,
  requestHash,
} from "./wire.ts";

export const { ethers, networkHelpers } = await network.create();
export const { loadFixture, time } = networkHelpers;

export const CHAIN_ID = 31337n;
export const NOTICE = 3600n;
export const MIN_TTL = 60;
export const MAX_TTL = 86_400;
export const UNBONDING = BigInt(MAX_TTL) + 7n * 86_400n;
export const CANCEL_DELAY = 600n;
export const NATIVE = ethers.ZeroAddress;

/** Nodes 1 to 3: operators of their own, admitted. 4: a second node of operator 1. 5: nobody vouches for it. */
export const keys: BaseWallet[] = [1, 2, 3, 4, 5].map((n) => new Wallet(keccakText(`node key ${n}`)));
export const GPU = labelHash("gpu=yes");

export async function keySignature(key: BaseWallet, registry: string, operator: string, nodeId: bigint, nonce: bigint) {
  return key.signTypedData(registryDomain(CHAIN_ID, registry), NODE_KEY_TYPES, { operator, nodeId, nonce });
}

export async function deployed() {
  const [owner, requester, relayer, curator, first, second, third, stranger] = await ethers.getSigners();
  const registry = await ethers.deployContract("NodeRegistry", [NOTICE, UNBONDING]);
  const parameters = [registry, MIN_TTL, MAX_TTL, CANCEL_DELAY, owner] as const;
  const bridge = await ethers.deployContract("ComputeBridge", [...parameters]);
  const operators = [first, second, third, first, stranger];
  for (const [index, operator] of operators.entries()) {
    const nodeId = BigInt(index + 1);
    await registry.connect(operator).register([{ key: "gpu", value: "yes" }], `node ${nodeId}`);
    const signature = await keySignature(keys[index], await registry.getAddress(), operator.address, nodeId, 0n);
    await registry.connect(operator).joinKey(nodeId, keys[index].address, signature);
    if (operator !== stranger) await registry.connect(curator).vouch(nodeId, [labelHash("node=admitted"), GPU]);
  }
  const bridgeAt = await bridge.getAddress();
  return {
    owner,
    requester,
    relayer,
    curator,
    operators,
    stranger,
    registry,
    bridge,
    bridgeAt,
    domain: bridgeDomain(CHAIN_ID, bridgeAt),
  };
}

export type System = Awaited<ReturnType<typeof deployed>>;

export interface Placed {
  id: bigint;
  order: Order;
  hash: string;
  requester: string;
}

/** Orders a job and gives back what everybody can know of it. */
export async function place(
  system: System,
  order: Order,
  requester?: HardhatEthersSigner,
  value = priceOf(order),
): Promise<Placed> {
  const by = requester ?? system.requester;
  await system.bridge.connect(by).requestJob(order, { value });
  const id = await system.bridge.requestCount();
  return { id, order, hash: requestHash(CHAIN_ID, system.bridgeAt, id, by.address, order), requester: by.address };
}

/** The last request, as its event tells it: the order of a dApp is the dApp's own. */
export async function lastPlaced(system: System): Promise<Placed> {
  const id = await system.bridge.requestCount();
  const [{ args }] = await system.bridge.queryFilter(system.bridge.filters.JobRequested(id));
  return { id, order: plainOrder(args.order), hash: args.requestHash, requester: args.requester };
}

export function anchorFor(system: System, nodeId: number, relayer?: string): Anchor {
  return {
    receiptHash: keccakText(`receipt ${nodeId}`),
    logRoot: keccakText(`log ${nodeId}`),
    logSize: BigInt(nodeId),
    relayer: relayer ?? system.relayer.address,
  };
}

/** Attestations of the nodes with these ids, in this order. */
export async function attestations(
  system: System,
  placed: Placed,
  outcome: Outcome,
  nodeIds: number[],
  relayer?: string,
): Promise<Attestation[]> {
  return Promise.all(
    nodeIds.map((nodeId) =>
      attest(keys[nodeId - 1], system.domain, placed.hash, outcome, anchorFor(system, nodeId, relayer)),
    ),
  );
}

export async function settle(system: System, placed: Placed, outcome: Outcome, nodeIds: number[], relayer?: string) {
  const signed = await attestations(system, placed, outcome, nodeIds, relayer);
  return system.bridge.connect(system.relayer).fulfil(placed.id, placed.order, outcome, signed);
}

/** An entry of a batch. */
export async function delivery(
  system: System,
  { id, order, ...placed }: Placed,
  outcome: Outcome,
  nodeIds: number[],
  relayer?: string,
) {
  return { id, order, outcome, attestations: await attestations(system, { id, order, ...placed }, outcome, nodeIds, relayer) };
}

export type Delivery = Awaited<ReturnType<typeof delivery>>;

/** What the contract holds beyond what it owes: zero unless somebody forced native tokens in. */
export async function surplus(system: System): Promise<bigint> {
  return (await ethers.provider.getBalance(system.bridgeAt)) - (await system.bridge.owed(NATIVE));
}

/** Credits of these accounts, added up. */
export async function creditsOf(system: System, accounts: string[]): Promise<bigint> {
  const each = await Promise.all([...new Set(accounts)].map((account) => system.bridge.creditOf(account, NATIVE)));
  return each.reduce((sum, credit) => sum + credit, 0n);
}

export async function latest(): Promise<bigint> {
  return BigInt(await time.latest());
}
