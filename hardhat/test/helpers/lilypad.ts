/** LilypadV0 on a deployed system, and jobs that ran through it. */
import { deployed, ethers, lastPlaced, NATIVE, type Placed, settle, time } from "./fixture.ts";
import { makeOrder, type Outcome } from "./wire.ts";

export const TERMS = {
  fee: 30_000n,
  deliveryFee: 4_000n,
  failPrice: 10_000n,
  ttl: 3600,
  callbackGas: 3_000_000n,
  pushGas: 300_000n,
};
export const JobState = { Unknown: 0n, Open: 1n, Fulfilled: 2n, Cancelled: 3n };
export const SPEC = '{"Engine":"docker","Docker":{"Image":"ubuntu","Entrypoint":["echo","42"]}}';

export async function lilypad() {
  const system = await deployed();
  const v0 = await ethers.deployContract("LilypadV0", [system.bridgeAt, system.curator.address, TERMS]);
  const at = await v0.getAddress();
  const caller = await ethers.deployContract("LilypadCaller", [at]);
  // One request before the first job: the ids of the two contracts differ.
  await system.bridge.requestJob(makeOrder({ unitPrice: 0n, failPrice: 0n, deliveryFee: 0n }));
  const run = async (resultType = 1, value = TERMS.fee, spec = SPEC) => {
    await caller.run(spec, resultType, { value });
    return { jobId: await caller.lastJob(), placed: await lastPlaced(system) };
  };
  const end = async (placed: Placed, outcome: Outcome, relayer?: string) =>
    settle(system, placed, outcome, [1], relayer);
  const expire = async (placed: Placed) => {
    await time.increase(TERMS.ttl + 1);
    await system.bridge.expire(placed.id, placed.order);
  };
  return { ...system, system, v0, at, caller, run, end, expire };
}

export type Lilypad = Awaited<ReturnType<typeof lilypad>>;

/** What the contract holds, here and at the bridge, beyond what it owes to payers. */
export async function spare({ v0, at, bridge }: Pick<Lilypad, "v0" | "at" | "bridge">): Promise<bigint> {
  const held = (await ethers.provider.getBalance(at)) + (await bridge.creditOf(at, NATIVE));
  return held - (await v0.owedRefunds());
}
