/** The wire as ethers computes it: independent of the contracts and of the Python side. */
import { AbiCoder, type BaseWallet, keccak256, toUtf8Bytes, TypedDataEncoder, ZeroAddress } from "ethers";

export const ORDER_TYPE =
  "tuple(uint8 version,uint8 dialect,bool specIsCid,bytes spec,uint8 resultKind,uint8 nodes,uint8 quorum,uint32 ttl," +
  "address callback,uint64 callbackGas,address curator,bytes32[] labels,address token," +
  "uint128 unitPrice,uint128 failPrice,uint128 deliveryFee)";
export const OUTCOME_TYPE = "tuple(uint8 status,uint16 reason,int32 exitCode,bytes outputCid,bytes payload)";

export const ATTESTATION_TYPES = {
  Attestation: [
    { name: "requestHash", type: "bytes32" },
    { name: "outcomeHash", type: "bytes32" },
    { name: "receiptHash", type: "bytes32" },
    { name: "logRoot", type: "bytes32" },
    { name: "logSize", type: "uint64" },
    { name: "relayer", type: "address" },
  ],
};
export const NODE_KEY_TYPES = {
  NodeKey: [
    { name: "operator", type: "address" },
    { name: "nodeId", type: "uint256" },
    { name: "nonce", type: "uint256" },
  ],
};

export const Status = { Succeeded: 1, Failed: 2, Refused: 3, Withheld: 4 };
export const State = {
  Unknown: 0,
  Requested: 1,
  Fulfilled: 2,
  Failed: 3,
  Refused: 4,
  Withheld: 5,
  Cancelled: 6,
  Expired: 7,
};
export const ResultKind = { Cid: 0, StdOut: 1, StdErr: 2, ExitCode: 3 };

export interface Order {
  version: number;
  dialect: number;
  specIsCid: boolean;
  spec: string;
  resultKind: number;
  nodes: number;
  quorum: number;
  ttl: number;
  callback: string;
  callbackGas: bigint;
  curator: string;
  labels: string[];
  token: string;
  unitPrice: bigint;
  failPrice: bigint;
  deliveryFee: bigint;
}

export interface Outcome {
  status: number;
  reason: number;
  exitCode: number;
  outputCid: string;
  payload: string;
}

export interface Anchor {
  receiptHash: string;
  logRoot: string;
  logSize: bigint;
  relayer: string;
}

export interface Attestation extends Anchor {
  signature: string;
}

export const hex = (text: string) => `0x${Buffer.from(text).toString("hex")}`;
export const repeated = (byte: string, count: number) => `0x${byte.repeat(count)}`;
export const labelHash = (word: string) => keccak256(toUtf8Bytes(word));
export const sortedLabels = (...words: string[]) => words.map(labelHash).sort();

/** A CIDv1 of raw bytes with sha2-256; which digest does not matter to a contract. */
export const CID = `0x01551220${"ab".repeat(32)}`;

export function makeOrder(change: Partial<Order> = {}): Order {
  return {
    version: 1,
    dialect: 1,
    specIsCid: false,
    spec: hex('{"version":"insula/v1"}'),
    resultKind: ResultKind.Cid,
    nodes: 1,
    quorum: 1,
    ttl: 3600,
    callback: ZeroAddress,
    callbackGas: 0n,
    curator: ZeroAddress,
    labels: [],
    token: ZeroAddress,
    unitPrice: 1_000_000n,
    failPrice: 400_000n,
    deliveryFee: 30_000n,
    ...change,
  };
}

export function makeOutcome(change: Partial<Outcome> = {}): Outcome {
  return { status: Status.Succeeded, reason: 0, exitCode: 0, outputCid: CID, payload: "0x", ...change };
}

export const priceOf = (order: Order) => BigInt(order.nodes) * order.unitPrice + order.deliveryFee;

const coder = AbiCoder.defaultAbiCoder();

export const orderHash = (order: Order) => keccak256(coder.encode([ORDER_TYPE], [order]));
export const outcomeHash = (outcome: Outcome) => keccak256(coder.encode([OUTCOME_TYPE], [outcome]));
export const resultDigest = (requestHash: string, outcome: string) =>
  keccak256(coder.encode(["bytes32", "bytes32"], [requestHash, outcome]));

export function requestHash(chainId: bigint, contract: string, id: bigint, requester: string, order: Order): string {
  const types = ["uint256", "address", "uint256", "address", "bytes32"];
  return keccak256(coder.encode(types, [chainId, contract, id, requester, orderHash(order)]));
}

export const bridgeDomain = (chainId: bigint, verifyingContract: string) => ({
  name: "Insula",
  version: "1",
  chainId,
  verifyingContract,
});
export const registryDomain = (chainId: bigint, verifyingContract: string) => ({
  name: "InsulaNodeRegistry",
  version: "1",
  chainId,
  verifyingContract,
});

export type Domain = ReturnType<typeof bridgeDomain>;

export function attestationDigest(domain: Domain, request: string, outcome: string, anchor: Anchor): string {
  const message = { requestHash: request, outcomeHash: outcome, ...anchor };
  return TypedDataEncoder.hash(domain, ATTESTATION_TYPES, message);
}

export async function attest(
  key: BaseWallet,
  domain: Domain,
  request: string,
  outcome: Outcome,
  anchor: Anchor,
): Promise<Attestation> {
  const message = { requestHash: request, outcomeHash: outcomeHash(outcome), ...anchor };
  return { ...anchor, signature: await key.signTypedData(domain, ATTESTATION_TYPES, message) };
}

/** An order that ethers decoded, with the types of one that was made here. */
export function plainOrder(decoded: { [K in keyof Order]: Order[K] extends number ? bigint : Order[K] }): Order {
  const { version, dialect, specIsCid, spec, resultKind, nodes, quorum, ttl, callback, callbackGas, curator } = decoded;
  const { labels, token, unitPrice, failPrice, deliveryFee } = decoded;
  return {
    version: Number(version), dialect: Number(dialect), specIsCid, spec, resultKind: Number(resultKind),
    nodes: Number(nodes), quorum: Number(quorum), ttl: Number(ttl), callback, callbackGas, curator, labels: [...labels],
    token, unitPrice, failPrice, deliveryFee,
  };
}
