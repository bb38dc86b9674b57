import { expect } from "chai";

import {
  CANCEL_DELAY,
  delivery,
  deployed,
  ethers,
  loadFixture,
  place,
  type Placed,
  settle,
  type System,
  time,
} from "./helpers/fixture.ts";
import { makeOrder, makeOutcome, type Outcome, outcomeHash, priceOf, resultDigest, State, Status } from "./helpers/wire.ts";

const OUTCOMES: Record<string, Outcome> = {
  Fulfilled: makeOutcome(),
  Failed: makeOutcome({ status: Status.Failed }),
  Refused: makeOutcome({ status: Status.Refused, outputCid: "0x" }),
  Withheld: makeOutcome({ status: Status.Withheld, outputCid: "0x" }),
};
const SAME = OUTCOMES.Fulfilled;
const OTHER = makeOutcome({ reason: 999 });

type Expected = "ok" | { error: string; args: (placed: Placed, state: number) => unknown[] };

const unknown: Expected = { error: "ComputeBridgeUnknownRequest", args: ({ id }) => [id] };
const unexpected: Expected = { error: "ComputeBridgeUnexpectedState", args: ({ id }, state) => [id, state] };
const notRetryable: Expected = { error: "ComputeBridgeCallbackNotRetryable", args: ({ id }) => [id] };
const notMarked: Expected = { error: "ComputeBridgeNotMarked", args: ({ id }) => [id] };

const CALLS: Record<string, (system: System, placed: Placed, same: Outcome) => Promise<unknown>> = {
  "fulfil with the same outcome": (system, placed, same) => settle(system, placed, same, [1]),
  "fulfil with another outcome": (system, placed) => settle(system, placed, OTHER, [1]),
  expire: ({ bridge }, { id, order }) => bridge.expire(id, order),
  cancel: ({ bridge, requester }, { id, order }) => bridge.connect(requester).cancel(id, order),
  drawCancelled: ({ bridge }, { id, order }) => bridge.drawCancelled(id, order),
  retryCallback: ({ bridge }, { id, order }, same) => bridge.retryCallback(id, order, same),
};

/** What each call must answer, in the order of CALLS. "Open" is Requested before its deadline, "Late" after it. */
const MATRIX: Record<string, Expected[]> = {
  Unknown: [unknown, unknown, unknown, unknown, unknown, unknown],
  Open: ["ok", "ok", { error: "ComputeBridgeDeadlineNotPassed", args: () => [] }, "ok", notMarked, notRetryable],
  Marked: [
    "ok",
    "ok",
    { error: "ComputeBridgeDeadlineNotPassed", args: () => [] },
    { error: "ComputeBridgeAlreadyMarked", args: ({ id }) => [id] },
    { error: "ComputeBridgeCancelPending", args: () => [] },
    notRetryable,
  ],
  Drawable: [
    "ok",
    "ok",
    { error: "ComputeBridgeDeadlineNotPassed", args: () => [] },
    { error: "ComputeBridgeAlreadyMarked", args: ({ id }) => [id] },
    "ok",
    notRetryable,
  ],
  Late: [
    { error: "ComputeBridgeDeadlinePassed", args: () => [] },
    { error: "ComputeBridgeDeadlinePassed", args: () => [] },
    "ok",
    { error: "ComputeBridgeDeadlinePassed", args: () => [] },
    notMarked,
    notRetryable,
  ],
  ...Object.fromEntries(
    Object.entries(OUTCOMES).map(([name, settledWith]) => {
      const conflict: Expected = {
        error: "ComputeBridgeOutcomeConflict",
        args: ({ id, hash }) => [
          id,
          resultDigest(hash, outcomeHash(settledWith)),
          resultDigest(hash, outcomeHash(OTHER)),
        ],
      };
      return [name, ["ok", conflict, unexpected, unexpected, unexpected, notRetryable]];
    }),
  ),
  Cancelled: [unexpected, unexpected, unexpected, unexpected, unexpected, notRetryable],
  Expired: [unexpected, unexpected, unexpected, unexpected, unexpected, notRetryable],
};

/** In which money the order is: the token can do nothing to any of it, so it refuses whatever comes after the payment. */
const MONEY: Record<string, (system: System) => Promise<Placed>> = {
  "in the native token": (system) => place(system, makeOrder()),
  "in a token that went bad": async (system) => {
    const token = await ethers.deployContract("HostileToken");
    const order = makeOrder({ token: await token.getAddress() });
    await token.mint(system.requester, priceOf(order));
    await token.connect(system.requester).approve(system.bridgeAt, priceOf(order));
    const placed = await place(system, order, system.requester, 0n);
    await token.setMode(REVERT);
    return placed;
  },
};
const REVERT = 9;

async function reach(system: System, name: string, money = "in the native token"): Promise<Placed> {
  const placed = await MONEY[money](system);
  const { bridge, requester } = system;
  if (name in OUTCOMES) await settle(system, placed, OUTCOMES[name], [1]);
  if (["Marked", "Drawable", "Cancelled"].includes(name)) await bridge.connect(requester).cancel(placed.id, placed.order);
  if (["Drawable", "Cancelled"].includes(name)) await time.increase(CANCEL_DELAY);
  if (["Late", "Expired"].includes(name)) await time.increase(placed.order.ttl);
  if (name === "Cancelled") await bridge.drawCancelled(placed.id, placed.order);
  if (name === "Expired") await bridge.expire(placed.id, placed.order);
  return name === "Unknown" ? { ...placed, id: 99n } : placed;
}

describe("ComputeBridge: every call in every state", () => {
  const cells = Object.keys(MONEY).flatMap((money) =>
    Object.entries(MATRIX).flatMap(([name, row]) =>
      Object.keys(CALLS).map((call, index) => ({ money, name, call, expected: row[index] }))));
  for (const { money, name, call, expected } of cells) {
    it(`${money}, ${name}: ${call} ${expected === "ok" ? "is fine" : `reverts with ${expected.error}`}`, async () => {
      const system = await loadFixture(deployed);
      const placed = await reach(system, name, money);
      const before = await system.bridge.requestOf(placed.id);
      const done = CALLS[call](system, placed, OUTCOMES[name] ?? SAME);
      if (expected === "ok") {
        await done;
        return;
      }
      const state = State[name as keyof typeof State] ?? State.Requested;
      const args = expected.args(placed, state);
      const reverted = expect(done).to.be.revertedWithCustomError(system.bridge, expected.error);
      await (args.length > 0 ? reverted.withArgs(...args) : reverted);
      expect(await system.bridge.requestOf(placed.id)).to.deep.equal(before);
      expect(before.state).to.equal(state);
    });
  }
});

describe("ComputeBridge: a batch of one in every state says what fulfil says", () => {
  for (const [name, row] of Object.entries(MATRIX)) {
    for (const [index, kind] of ["the same outcome", "another outcome"].entries()) {
      const expected = row[index];
      it(`${name}: ${kind} ${expected === "ok" ? "is delivered" : `is skipped with ${expected.error}`}`, async () => {
        const system = await loadFixture(deployed);
        const placed = await reach(system, name);
        if (name === "Late") await time.increase(1); // a call runs at the newest block's time
        const outcome = index === 0 ? (OUTCOMES[name] ?? SAME) : OTHER;
        const batch = [await delivery(system, placed, outcome, [1])];
        const before = await system.bridge.requestOf(placed.id);
        expect(await system.bridge.fulfilMany.staticCall(batch)).to.deep.equal([expected === "ok"]);
        const sent = system.bridge.fulfilMany(batch);
        if (expected === "ok") {
          await expect(sent).to.not.emit(system.bridge, "DeliverySkipped");
          return;
        }
        const single = system.bridge.interface.encodeFunctionData("fulfil", Object.values(batch[0]) as never);
        const reverted = await ethers.provider
          .send("eth_call", [{ to: system.bridgeAt, data: single }])
          .catch((error: { data: string }) => error.data);
        expect(system.bridge.interface.parseError(reverted)?.name).to.equal(expected.error);
        await expect(sent).to.emit(system.bridge, "DeliverySkipped").withArgs(placed.id, reverted);
        expect(await system.bridge.requestOf(placed.id)).to.deep.equal(before);
      });
    }
  }
});
