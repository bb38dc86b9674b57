import type { HardhatEthersSigner } from "@nomicfoundation/hardhat-ethers/types";
import { expect } from "chai";
import { ZeroAddress } from "ethers";

import {
  attestations,
  CANCEL_DELAY,
  CHAIN_ID,
  delivery,
  deployed,
  ethers,
  loadFixture,
  NATIVE,
  place,
  type Placed,
  settle,
  surplus,
  type System,
  time,
} from "./helpers/fixture.ts";
import { makeOrder, makeOutcome, type Order, priceOf, requestHash, State, Status } from "./helpers/wire.ts";

const Mode = {
  Plain: 0, NoReturn: 1, ReturnFalse: 2, TakeFee: 3, TakeOneUnit: 4, GiveOneMore: 5, MoveNothing: 6, Shrink: 7,
  ChargeSender: 8, Revert: 9, BurnGas: 10, ReturnBomb: 11,
};
const GAS = 2_000_000n;
const RICH = 10n ** 12n;
const OUTCOME = makeOutcome();
const REENTERED = ethers.id("ReentrancyGuardReentrantCall()").slice(0, 10);

async function fixture() {
  const system = await deployed();
  const token = await ethers.deployContract("HostileToken");
  const tokenAt = await token.getAddress();
  await token.mint(system.requester, RICH);
  await token.connect(system.requester).approve(system.bridgeAt, RICH);
  return { ...system, system, token, tokenAt, bridge: system.bridge.connect(system.requester) };
}

/** Orders a job that is paid in a token. */
async function placeIn(system: System, token: string, change: Partial<Order> = {}, by = system.requester): Promise<Placed> {
  const order = makeOrder({ token, ...change });
  await system.bridge.connect(by).requestJob(order);
  const id = await system.bridge.requestCount();
  return { id, order, hash: requestHash(CHAIN_ID, system.bridgeAt, id, by.address, order), requester: by.address };
}

/** What the bridge holds of a token beyond what it owes. */
async function surplusOf({ bridge, bridgeAt }: System, token: string): Promise<bigint> {
  const held = await (await ethers.getContractAt("HostileToken", token)).balanceOf(bridgeAt);
  return held - (await bridge.owed(token));
}

describe("ComputeBridge: orders in an ERC-20", () => {
  describe("requestJob", () => {
    it("takes exactly the price from the requester, who has approved it", async () => {
      const { bridge, bridgeAt, system, token, tokenAt, requester } = await loadFixture(fixture);
      const order = makeOrder({ token: tokenAt, nodes: 3, quorum: 2 });
      const price = priceOf(order);
      const hash = requestHash(CHAIN_ID, bridgeAt, 1n, requester.address, order);
      await expect(bridge.requestJob(order)).to.emit(bridge, "JobRequested");
      expect(await bridge.requestHash(1)).to.equal(hash);
      expect(await token.balanceOf(requester)).to.equal(RICH - price);
      expect(await token.allowance(requester, bridgeAt)).to.equal(RICH - price);
      expect(await bridge.owed(tokenAt)).to.equal(price);
      expect(await bridge.owed(NATIVE)).to.equal(0n);
      expect(await surplusOf(system, tokenAt)).to.equal(0n);
    });

    it("takes no native token with it", async () => {
      const { bridge, tokenAt } = await loadFixture(fixture);
      await expect(bridge.requestJob(makeOrder({ token: tokenAt }), { value: 1n }))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeWrongPayment").withArgs(1n, 0n);
    });

    it("takes nothing without an approval or a balance", async () => {
      const { bridge, bridgeAt, token, tokenAt, requester, stranger } = await loadFixture(fixture);
      const order = makeOrder({ token: tokenAt });
      await token.connect(requester).approve(bridgeAt, priceOf(order) - 1n);
      await expect(bridge.requestJob(order)).to.be.revertedWithPanic(0x11);
      await token.connect(stranger).approve(bridgeAt, RICH);
      await expect(bridge.connect(stranger).requestJob(order)).to.be.revertedWithPanic(0x11);
      expect(await bridge.requestCount()).to.equal(0n);
    });

    it("calls no token where nothing is to be paid", async () => {
      const { system, token, tokenAt } = await loadFixture(fixture);
      await token.setMode(Mode.Revert);
      const free = await placeIn(system, tokenAt, { unitPrice: 0n, failPrice: 0n, deliveryFee: 0n });
      expect(await system.bridge.requestHash(free.id)).to.equal(free.hash);
    });

    const notTokens: [string, (system: System) => Promise<string> | string][] = [
      ["an account", ({ curator }) => curator.address],
      ["the bridge", ({ bridgeAt }) => bridgeAt],
      ["the registry", ({ registry }) => registry.getAddress()],
      ["a masked id address", () => "0xff00000000000000000000000000000000000065"],
    ];
    for (const [what, at] of notTokens) {
      it(`refuses ${what} as a token, and so does the quote`, async () => {
        const { bridge, system } = await loadFixture(fixture);
        const order = makeOrder({ token: await at(system) });
        for (const call of [bridge.requestJob, bridge.quote]) {
          await expect(call(order)).to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("token");
        }
      });
    }

    const inexact: [string, number, (price: bigint) => bigint][] = [
      ["takes a fee", Mode.TakeFee, (price) => price - price / 100n],
      ["rounds down", Mode.TakeOneUnit, (price) => price - 1n],
      ["pays more than it was asked for", Mode.GiveOneMore, (price) => price + 1n],
      ["moves nothing and says that it did", Mode.MoveNothing, () => 0n],
      ["rebases what is there downwards", Mode.Shrink, () => 0n],
    ];
    for (const [what, mode, moved] of inexact) {
      it(`refuses a token that ${what}`, async () => {
        const { bridge, system, token, tokenAt } = await loadFixture(fixture);
        await placeIn(system, tokenAt);
        const price = priceOf(makeOrder());
        await token.setMode(mode);
        await expect(bridge.requestJob(makeOrder({ token: tokenAt })))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeInexactTransfer").withArgs(tokenAt, moved(price), price);
        expect(await bridge.requestCount()).to.equal(1n);
        expect(await bridge.owed(tokenAt)).to.equal(price);
      });
    }

    it("refuses a token that answers no", async () => {
      const { bridge, token, tokenAt } = await loadFixture(fixture);
      const safe = await ethers.getContractFactory("ComputeBridge");
      await token.setMode(Mode.ReturnFalse);
      await expect(bridge.requestJob(makeOrder({ token: tokenAt })))
        .to.be.revertedWithCustomError(safe, "SafeERC20FailedOperation").withArgs(tokenAt);
    });

    for (const [what, mode] of [["nothing", Mode.NoReturn], ["200 000 bytes", Mode.ReturnBomb]] as const) {
      it(`accepts a token that moves what it should and returns ${what}`, async () => {
        const { bridge, system, token, tokenAt, operators, curator } = await loadFixture(fixture);
        await token.setMode(mode);
        const placed = await placeIn(system, tokenAt);
        await settle(system, placed, OUTCOME, [1]);
        await bridge.connect(operators[0]).withdraw(tokenAt, curator);
        expect(await token.balanceOf(curator)).to.equal(placed.order.unitPrice);
        expect(await surplusOf(system, tokenAt)).to.equal(0n);
      });
    }
  });

  const ends: [string, bigint, (system: System, placed: Placed) => Promise<unknown>][] = [
    ["Fulfilled", 1_000_000n, (system, placed) => settle(system, placed, OUTCOME, [1, 2])],
    ["Failed", 400_000n, (system, placed) => settle(system, placed, makeOutcome({ status: Status.Failed }), [1, 2])],
    ["Refused", 0n, (system, placed) =>
      settle(system, placed, makeOutcome({ status: Status.Refused, outputCid: "0x" }), [1, 2])],
    ["Expired", 0n, async ({ bridge }, { id, order }) => {
      await time.increase(order.ttl + 1);
      return bridge.expire(id, order);
    }],
    ["Cancelled", 0n, async ({ bridge, requester }, { id, order }) => {
      await bridge.connect(requester).cancel(id, order);
      await time.increase(CANCEL_DELAY);
      return bridge.drawCancelled(id, order);
    }],
  ];
  for (const [name, share, end] of ends) {
    it(`pays out exactly the price in the token when it ends as ${name}`, async () => {
      const { bridge, bridgeAt, system, token, tokenAt, operators, relayer, requester } = await loadFixture(fixture);
      const placed = await placeIn(system, tokenAt, { nodes: 3, quorum: 2 });
      await end(system, placed);
      const settled = !["Expired", "Cancelled"].includes(name);
      const fee = settled ? placed.order.deliveryFee : 0n;
      const back = priceOf(placed.order) - 2n * share - fee;
      const due: [HardhatEthersSigner, bigint][] = [
        [operators[0], share], [operators[1], share], [relayer, fee], [requester, back],
      ];
      expect((await bridge.resultOf(placed.id)).state).to.equal(State[name as keyof typeof State]);
      for (const [account, amount] of due) {
        expect(await bridge.creditOf(account, tokenAt)).to.equal(amount);
        expect(await bridge.creditOf(account, NATIVE)).to.equal(0n);
        if (amount === 0n) continue;
        const before = await token.balanceOf(account);
        await expect(bridge.connect(account).withdraw(tokenAt, account))
          .to.emit(bridge, "Withdrawn").withArgs(account.address, tokenAt, account.address, amount);
        expect((await token.balanceOf(account)) - before).to.equal(amount);
      }
      expect(await token.balanceOf(bridgeAt)).to.equal(0n);
      expect(await bridge.owed(tokenAt)).to.equal(0n);
    });
  }

  it("keeps tokens apart: each is escrowed, credited and withdrawn for itself", async () => {
    const { bridge, system, token, tokenAt, operators, requester, bridgeAt, relayer } = await loadFixture(fixture);
    const other = await ethers.deployContract("HostileToken");
    const otherAt = await other.getAddress();
    await other.mint(requester, RICH);
    await other.connect(requester).approve(bridgeAt, RICH);
    const entries = [];
    for (const [at, deliveryFee] of [[tokenAt, 1n], [otherAt, 2n], [tokenAt, 4n], [tokenAt, 8n]] as const) {
      entries.push(await delivery(system, await placeIn(system, at, { deliveryFee }), OUTCOME, [1]));
    }
    entries.push(await delivery(system, await place(system, makeOrder({ deliveryFee: 16n })), OUTCOME, [1]));
    await bridge.fulfilMany(entries);
    const fees = await Promise.all([tokenAt, otherAt, NATIVE].map((at) => bridge.creditOf(relayer, at)));
    expect(fees).to.deep.equal([13n, 2n, 16n]);
    const shares = await Promise.all([tokenAt, otherAt, NATIVE].map((at) => bridge.creditOf(operators[0], at)));
    expect(shares).to.deep.equal([3_000_000n, 1_000_000n, 1_000_000n]);
    await bridge.connect(operators[0]).withdraw(otherAt, operators[0]);
    expect(await token.balanceOf(operators[0])).to.equal(0n);
    expect([await surplusOf(system, tokenAt), await surplusOf(system, otherAt), await surplus(system)])
      .to.deep.equal([0n, 0n, 0n]);
  });

  describe("a token that turns bad later", () => {
    for (const mode of ["Revert", "BurnGas", "ReturnFalse"] as const) {
      it(`by ${mode} stops no settlement and no refund, and nobody's other money`, async () => {
        const { bridge, system, token, tokenAt, operators, relayer } = await loadFixture(fixture);
        const settled = await placeIn(system, tokenAt);
        const expired = await placeIn(system, tokenAt, { ttl: 60 });
        const native = await place(system, makeOrder());
        await token.setMode(Mode[mode]);
        await settle(system, settled, OUTCOME, [1]);
        await settle(system, native, OUTCOME, [1]);
        await time.increase(61);
        await bridge.expire(expired.id, expired.order);
        await expect(bridge.connect(operators[0]).withdraw(tokenAt, operators[0], { gasLimit: 1_000_000n }))
          .to.be.revert(ethers);
        await bridge.connect(operators[0]).withdraw(NATIVE, operators[0]);
        await token.setMode(Mode.Plain);
        await bridge.connect(operators[0]).withdraw(tokenAt, operators[0]);
        await bridge.connect(relayer).withdraw(tokenAt, relayer);
        expect(await token.balanceOf(operators[0])).to.equal(settled.order.unitPrice);
        expect(await surplusOf(system, tokenAt)).to.equal(0n);
      });
    }

    it("by blocking one account keeps only that account from its money, which it can send elsewhere", async () => {
      const { bridge, system, token, tokenAt, operators, curator } = await loadFixture(fixture);
      const placed = await placeIn(system, tokenAt, { nodes: 3, quorum: 2 });
      await token.setBlocked(operators[0], true);
      await settle(system, placed, OUTCOME, [1, 2]);
      await expect(bridge.connect(operators[0]).withdraw(tokenAt, operators[0]))
        .to.be.revertedWithCustomError(token, "HostileTokenRefuses");
      expect(await bridge.creditOf(operators[0], tokenAt)).to.equal(placed.order.unitPrice);
      await bridge.connect(operators[1]).withdraw(tokenAt, operators[1]);
      await bridge.connect(operators[0]).withdraw(tokenAt, curator);
      expect(await token.balanceOf(curator)).to.equal(placed.order.unitPrice);
    });

    it("by charging the sender pays out nothing at the others' expense", async () => {
      const { bridge, system, token, tokenAt, operators } = await loadFixture(fixture);
      const { order } = await placeIn(system, tokenAt);
      await settle(system, await placeIn(system, tokenAt), OUTCOME, [1]);
      await token.setMode(Mode.ChargeSender);
      await expect(bridge.connect(operators[0]).withdraw(tokenAt, operators[0]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeInexactTransfer")
        .withArgs(tokenAt, order.unitPrice + 1n, order.unitPrice);
      expect(await surplusOf(system, tokenAt)).to.equal(0n);
    });
  });

  it("is ordered in and withdrawn as often as one likes in one transaction", async () => {
    const { bridge, bridgeAt, system, token, tokenAt } = await loadFixture(fixture);
    const buyer = await ethers.deployContract("OneTransaction");
    const buyerAt = await buyer.getAddress();
    await token.mint(buyer, RICH);
    const order = makeOrder({ token: tokenAt });
    const approve = token.interface.encodeFunctionData("approve", [bridgeAt, RICH]);
    const request = bridge.interface.encodeFunctionData("requestJob", [order]);
    const withdraw = bridge.interface.encodeFunctionData("withdraw", [tokenAt, buyerAt]);
    await buyer.run([tokenAt, bridgeAt, bridgeAt], [approve, request, request]);
    await time.increase(order.ttl + 1);
    await bridge.expire(1, order);
    await buyer.run([bridgeAt, bridgeAt], [withdraw, request]);
    expect([await bridge.requestCount(), await bridge.owed(tokenAt)]).to.deep.equal([3n, 2n * priceOf(order)]);
    expect(await surplusOf(system, tokenAt)).to.equal(0n);
  });

  it("is not withdrawn to the bridge itself, nor to zero", async () => {
    const { bridge, bridgeAt, system, tokenAt, operators } = await loadFixture(fixture);
    const { order } = await placeIn(system, tokenAt);
    await settle(system, await placeIn(system, tokenAt), OUTCOME, [1]);
    const call = bridge.connect(operators[0]);
    await expect(call.withdraw(tokenAt, bridgeAt))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeInexactTransfer").withArgs(tokenAt, 0n, order.unitPrice);
    await expect(call.withdraw(tokenAt, ZeroAddress))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeTransferFailed").withArgs(ZeroAddress, order.unitPrice);
    await expect(call.withdraw(tokenAt, operators[0])).to.emit(bridge, "Withdrawn");
  });

  it("does not touch tokens that were sent to the bridge", async () => {
    const { bridge, bridgeAt, system, token, tokenAt, operators } = await loadFixture(fixture);
    await token.mint(bridgeAt, 77n);
    await settle(system, await placeIn(system, tokenAt), OUTCOME, [1]);
    await bridge.connect(operators[0]).withdraw(tokenAt, operators[0]);
    expect(await surplusOf(system, tokenAt)).to.equal(77n);
  });

  describe("a token that calls back into the bridge", () => {
    type Call = (made: Awaited<ReturnType<typeof fixture>>) => Promise<[string, unknown[]]>;
    const calls: Record<string, Call> = {
      "requestJob in the native token": async () => ["requestJob", [makeOrder({ unitPrice: 0n, failPrice: 0n, deliveryFee: 0n })]],
      "requestJob in itself": async ({ tokenAt }) => ["requestJob", [makeOrder({ token: tokenAt })]],
      fulfil: async ({ system }) => ["fulfil", Object.values(await delivery(system, await place(system, makeOrder()), OUTCOME, [2]))],
      fulfilMany: async ({ system }) => ["fulfilMany", [[await delivery(system, await place(system, makeOrder()), OUTCOME, [2])]]],
      expire: async ({ system }) => {
        const { id, order } = await place(system, makeOrder({ ttl: 60 }));
        await time.increase(61);
        return ["expire", [id, order]];
      },
      cancel: async ({ system }) => {
        const { id, order } = await place(system, makeOrder());
        return ["cancel", [id, order]];
      },
      drawCancelled: async ({ system, requester }) => {
        const { id, order } = await place(system, makeOrder());
        await system.bridge.connect(requester).cancel(id, order);
        await time.increase(CANCEL_DELAY);
        return ["drawCancelled", [id, order]];
      },
      retryCallback: async ({ system, tokenAt }) => {
        const placed = await place(system, makeOrder({ callback: tokenAt, callbackGas: 100_000n }));
        await settle(system, placed, OUTCOME, [1]);
        return ["retryCallback", [placed.id, placed.order, OUTCOME]];
      },
      withdraw: async ({ tokenAt, curator }) => ["withdraw", [tokenAt, curator.address]],
    };

    /** The token itself holds a credit, so that it could withdraw. */
    async function tempted() {
      const made = await fixture();
      const { bridge, bridgeAt, token, tokenAt } = made;
      await token.mint(tokenAt, RICH);
      const order = makeOrder({ token: tokenAt, ttl: 60 });
      await token.act(bridgeAt, bridge.interface.encodeFunctionData("requestJob", [order]));
      await time.increase(61);
      await bridge.expire(1, order);
      return made;
    }

    for (const [name, prepare] of Object.entries(calls)) {
      it(`cannot enter ${name} while it is paid in`, async () => {
        const made = await loadFixture(tempted);
        const { bridge, bridgeAt, system, token, tokenAt } = made;
        const [fn, args] = await prepare(made);
        await token.setCall(bridgeAt, bridge.interface.encodeFunctionData(fn as "fulfil", args as never));
        const before = await bridge.requestCount();
        const placed = await placeIn(system, tokenAt);
        expect([placed.id, await token.innerSuccess(), await token.innerReturned()])
          .to.deep.equal([before + 1n, false, REENTERED]);
        expect([await surplusOf(system, tokenAt), await surplus(system)]).to.deep.equal([0n, 0n]);
      });

      it(`cannot enter ${name} while it is withdrawn`, async () => {
        const made = await loadFixture(tempted);
        const { bridge, bridgeAt, system, token, tokenAt, operators } = made;
        await settle(system, await placeIn(system, tokenAt), OUTCOME, [1]);
        const [fn, args] = await prepare(made);
        await token.setCall(bridgeAt, bridge.interface.encodeFunctionData(fn as "fulfil", args as never));
        await bridge.connect(operators[0]).withdraw(tokenAt, operators[0]);
        expect([await token.innerSuccess(), await token.innerReturned()]).to.deep.equal([false, REENTERED]);
        expect([await surplusOf(system, tokenAt), await surplus(system)]).to.deep.equal([0n, 0n]);
      });
    }

    it("sees the state as it was before the order", async () => {
      const { bridge, bridgeAt, system, token, tokenAt } = await loadFixture(tempted);
      await token.setCall(bridgeAt, bridge.interface.encodeFunctionData("requestCount"));
      await placeIn(system, tokenAt);
      expect([await token.innerSuccess(), BigInt(await token.innerReturned())]).to.deep.equal([true, 1n]);
    });
  });

  describe("from inside a callback", () => {
    async function pipeline(mode: number | null) {
      const made = await loadFixture(fixture);
      const { bridge, bridgeAt, system, token, tokenAt } = made;
      const dapp = await ethers.deployContract("HostileCallback");
      const callback = await dapp.getAddress();
      await token.mint(callback, RICH);
      await dapp.act(tokenAt, token.interface.encodeFunctionData("approve", [bridgeAt, RICH]));
      const next = makeOrder({ token: tokenAt, ttl: 600 });
      await dapp.setCall(bridgeAt, bridge.interface.encodeFunctionData("requestJob", [next]), 0);
      const first = await placeIn(system, tokenAt, { callback, callbackGas: GAS });
      const victim = await place(system, makeOrder());
      const again = bridge.interface.encodeFunctionData("requestJob", [next]);
      const signed = await attestations(system, victim, OUTCOME, [2]);
      const steal = bridge.interface.encodeFunctionData("fulfil", [victim.id, victim.order, OUTCOME, signed]);
      if (mode !== null) await token.setCall(bridgeAt, mode === 0 ? again : steal);
      await settle(system, first, OUTCOME, [1]);
      return { ...made, dapp, callback, next, victim };
    }

    it("the next job may be ordered in a token", async () => {
      const { bridge, bridgeAt, dapp, callback, next, victim, system, tokenAt } = await pipeline(null);
      expect(await dapp.innerSuccess()).to.equal(true);
      const id = victim.id + 1n;
      expect(await bridge.requestHash(id)).to.equal(requestHash(CHAIN_ID, bridgeAt, id, callback, next));
      expect(await surplusOf(system, tokenAt)).to.equal(0n);
    });

    for (const [name, mode] of [["requestJob", 0], ["fulfil", 1]] as const) {
      it(`a token that is paid in for it cannot enter ${name}`, async () => {
        const { bridge, dapp, token, victim, system, tokenAt } = await pipeline(mode);
        expect([await dapp.innerSuccess(), await token.innerSuccess()]).to.deep.equal([true, false]);
        expect(await token.innerReturned()).to.equal(REENTERED);
        expect(await bridge.requestCount()).to.equal(victim.id + 1n);
        expect((await bridge.resultOf(victim.id)).state).to.equal(State.Requested);
        expect(await surplusOf(system, tokenAt)).to.equal(0n);
      });
    }
  });
});
