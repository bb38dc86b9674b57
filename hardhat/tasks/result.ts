/** How a request stands, from the contract's state and, once it is settled, its event. */
import { getBytes, toUtf8String } from "ethers";
import { HardhatPluginError } from "hardhat/plugins";

import type { Connection } from "./connect.ts";

const STATES = ["Unknown", "Requested", "Fulfilled", "Failed", "Refused", "Withheld", "Cancelled", "Expired"];
const SETTLED = ["Fulfilled", "Failed", "Refused", "Withheld"];
// FEVM endpoints refuse more than 2880 epochs in one call.
const WINDOW = 2000;

export async function stateOf({ bridge }: Connection, id: bigint) {
  const { requester, deadline, state, cancelMarkedAt, callbackFailed } = await bridge.requestOf(id);
  return { requester, deadline, state: STATES[Number(state)], cancelMarkedAt, callbackFailed };
}

export const isFinal = (state: string) => state !== "Requested" && state !== "Unknown";

export async function resultOf(connection: Connection, id: bigint) {
  const { requester, deadline, state, cancelMarkedAt, callbackFailed } = await stateOf(connection, id);
  if (state === "Unknown") throw new HardhatPluginError("insula", `there is no request ${id}`);
  const request = { id, state, requester, deadline };
  if (!isFinal(state)) return { ...request, ...(await waiting(connection, deadline, cancelMarkedAt)) };
  if (!SETTLED.includes(state)) return request;
  const { bridge } = connection;
  const found = await lastEvents(connection, (from, to) => bridge.queryFilter(bridge.filters.JobSettled(id), from, to));
  if (found.length === 0) return { ...request, callbackFailed, note: "the endpoint has no event of it: its logs are pruned" };
  const { outcome, relayer } = found[0].args;
  const block = found[0].blockNumber;
  const signed = await bridge.queryFilter(bridge.filters.Attested(id), block, block);
  return {
    ...request,
    status: outcome.status,
    reason: outcome.reason,
    exitCode: outcome.exitCode,
    outputCid: outcome.outputCid === "0x" ? null : cidText(outcome.outputCid),
    payload: outcome.payload,
    payloadText: text(outcome.payload),
    relayer,
    signedBy: signed.map(({ args }) => ({ node: args.nodeId, key: args.key, paid: args.paid })),
    callbackFailed,
    block,
    transaction: found[0].transactionHash,
  };
}

/** What an open request waits for, where that is not a result. */
async function waiting({ ethers, bridge }: Connection, deadline: bigint, cancelMarkedAt: bigint) {
  const now = BigInt((await ethers.provider.getBlock("latest"))?.timestamp ?? 0);
  if (now > deadline) return { note: "its deadline is over: anyone may have it refunded by the bridge's `expire`" };
  if (cancelMarkedAt === 0n) return {};
  const { cancelDelay } = await bridge.bounds();
  return { cancelMarkedAt, note: `marked for cancellation; \`drawCancelled\` refunds it from ${cancelMarkedAt + cancelDelay} on` };
}

/** Events in the newest window that has any, back to the block of the deployment. */
async function lastEvents<T>({ ethers, known }: Connection, read: (from: number, to: number) => Promise<T[]>): Promise<T[]> {
  const oldest = known?.deployBlock ?? 0;
  for (let to = await ethers.provider.getBlockNumber(); to >= oldest; to -= WINDOW) {
    const events = await read(Math.max(oldest, to - WINDOW + 1), to);
    if (events.length !== 0) return events;
  }
  return [];
}

/** Multibase "b": base32 in lower case, no padding. */
function cidText(hex: string): string {
  const bits = [...getBytes(hex)].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const fives = bits.match(/.{1,5}/g) ?? [];
  return `b${fives.map((five) => "abcdefghijklmnopqrstuvwxyz234567"[parseInt(five.padEnd(5, "0"), 2)]).join("")}`;
}

function text(hex: string): string | null {
  try {
    return toUtf8String(hex);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "INVALID_ARGUMENT") return null;
    throw error;
  }
}
