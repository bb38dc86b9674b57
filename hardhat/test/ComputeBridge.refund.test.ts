import { expect } from "chai";
import { ZeroAddress } from "ethers";

import {
  CANCEL_DELAY,
  deployed,
  ethers,
  latest,
  loadFixture,
  NATIVE,
  place,
  settle,
  surplus,
  time,
} from "./helpers/fixture.ts";
import { makeOrder, makeOutcome, priceOf, State } from "./helpers/wire.ts";

async function placedOne() {
  const system = await deployed();
  return { ...system, system, placed: await place(system, makeOrder({ nodes: 3, quorum: 2 })) };
}

describe("ComputeBridge: refunds and withdrawals", () => {
  describe("expire", () => {
    it("gives the whole price back, at anyone's call", async () => {
      const { bridge, system, placed, stranger, requester } = await loadFixture(placedOne);
      const { deadline } = await bridge.requestOf(placed.id);
      await time.increaseTo(deadline);
      const price = priceOf(placed.order);
      await expect(bridge.connect(stranger).expire(placed.id, placed.order))
        .to.emit(bridge, "JobExpired").withArgs(placed.id, placed.hash, price)
        .and.to.emit(bridge, "Credited").withArgs(requester.address, NATIVE, price);
      expect(await bridge.resultOf(placed.id)).to.deep.equal([BigInt(State.Expired), ethers.ZeroHash]);
      expect(await bridge.requestHash(placed.id)).to.equal(ethers.ZeroHash);
      expect(await bridge.creditOf(requester, NATIVE)).to.equal(price);
      expect(await bridge.owed(NATIVE)).to.equal(price);
      expect(await surplus(system)).to.equal(0n);
    });

    it("is refused up to the deadline", async () => {
      const { bridge, placed } = await loadFixture(placedOne);
      const { deadline } = await bridge.requestOf(placed.id);
      await time.setNextBlockTimestamp(deadline);
      await expect(bridge.expire(placed.id, placed.order))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeDeadlineNotPassed").withArgs(placed.id, deadline);
    });

    it("works for a marked request too", async () => {
      const { bridge, placed, requester } = await loadFixture(placedOne);
      await bridge.connect(requester).cancel(placed.id, placed.order);
      await time.increase(placed.order.ttl);
      await bridge.expire(placed.id, placed.order);
      expect((await bridge.resultOf(placed.id)).state).to.equal(State.Expired);
    });

    it("pays nothing for a request that cost nothing", async () => {
      const { bridge, system } = await loadFixture(placedOne);
      const free = await place(system, makeOrder({ unitPrice: 0n, failPrice: 0n, deliveryFee: 0n }));
      await time.increase(free.order.ttl + 1);
      const expired = bridge.expire(free.id, free.order);
      await expect(expired).to.emit(bridge, "JobExpired").withArgs(free.id, free.hash, 0);
      await expect(expired).to.not.emit(bridge, "Credited");
    });
  });

  describe("cancel", () => {
    it("marks the request", async () => {
      const { bridge, placed, requester } = await loadFixture(placedOne);
      const at = (await latest()) + 10n;
      await time.setNextBlockTimestamp(at);
      await expect(bridge.connect(requester).cancel(placed.id, placed.order))
        .to.emit(bridge, "JobCancelRequested").withArgs(placed.id, placed.hash, at + CANCEL_DELAY);
      expect((await bridge.requestOf(placed.id)).cancelMarkedAt).to.equal(at);
      expect(await bridge.requestHash(placed.id)).to.equal(placed.hash);
    });

    it("is the requester's alone", async () => {
      const { bridge, placed, owner } = await loadFixture(placedOne);
      await expect(bridge.connect(owner).cancel(placed.id, placed.order))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeNotRequester").withArgs(placed.id, owner.address);
    });

    it("is refused twice", async () => {
      const { bridge, placed, requester } = await loadFixture(placedOne);
      await bridge.connect(requester).cancel(placed.id, placed.order);
      await expect(bridge.connect(requester).cancel(placed.id, placed.order))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeAlreadyMarked").withArgs(placed.id);
    });

    it("is accepted in the deadline's last second", async () => {
      const { bridge, placed, requester } = await loadFixture(placedOne);
      const { deadline } = await bridge.requestOf(placed.id);
      await time.setNextBlockTimestamp(deadline);
      await bridge.connect(requester).cancel(placed.id, placed.order);
      expect((await bridge.requestOf(placed.id)).cancelMarkedAt).to.equal(deadline);
    });

    it("is refused after the deadline: expire then", async () => {
      const { bridge, placed, requester } = await loadFixture(placedOne);
      const { deadline } = await bridge.requestOf(placed.id);
      await time.increaseTo(deadline);
      await expect(bridge.connect(requester).cancel(placed.id, placed.order))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeDeadlinePassed").withArgs(placed.id, deadline);
    });
  });

  describe("drawCancelled", () => {
    it("gives the whole price back once the delay has gone by, at anyone's call", async () => {
      const { bridge, system, placed, requester, stranger } = await loadFixture(placedOne);
      await bridge.connect(requester).cancel(placed.id, placed.order);
      const refundableAt = (await latest()) + CANCEL_DELAY;
      await time.setNextBlockTimestamp(refundableAt);
      const price = priceOf(placed.order);
      await expect(bridge.connect(stranger).drawCancelled(placed.id, placed.order))
        .to.emit(bridge, "JobCancelled").withArgs(placed.id, placed.hash, price)
        .and.to.emit(bridge, "Credited").withArgs(requester.address, NATIVE, price);
      expect(await bridge.resultOf(placed.id)).to.deep.equal([BigInt(State.Cancelled), ethers.ZeroHash]);
      expect(await surplus(system)).to.equal(0n);
    });

    it("is refused before", async () => {
      const { bridge, placed, requester } = await loadFixture(placedOne);
      await expect(bridge.drawCancelled(placed.id, placed.order))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeNotMarked").withArgs(placed.id);
      await bridge.connect(requester).cancel(placed.id, placed.order);
      const refundableAt = (await latest()) + CANCEL_DELAY;
      await time.setNextBlockTimestamp(refundableAt - 1n);
      await expect(bridge.drawCancelled(placed.id, placed.order))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeCancelPending").withArgs(placed.id, refundableAt);
    });
  });

  describe("withdraw", () => {
    it("sends the whole credit, once", async () => {
      const { bridge, bridgeAt, system, placed, operators, owner } = await loadFixture(placedOne);
      await settle(system, placed, makeOutcome(), [1, 2]);
      const { unitPrice } = placed.order;
      const drawn = bridge.connect(operators[0]).withdraw(NATIVE, owner);
      await expect(drawn)
        .to.emit(bridge, "Withdrawn").withArgs(operators[0].address, NATIVE, owner.address, unitPrice);
      await expect(drawn).to.changeEtherBalances(ethers, [bridgeAt, owner], [-unitPrice, unitPrice]);
      expect(await bridge.creditOf(operators[0], NATIVE)).to.equal(0n);
      expect(await bridge.owed(NATIVE)).to.equal(priceOf(placed.order) - unitPrice);
      expect(await surplus(system)).to.equal(0n);
      await expect(bridge.connect(operators[0]).withdraw(NATIVE, owner))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeNothingToWithdraw")
        .withArgs(operators[0].address, NATIVE);
    });

    it("empties the contract when everyone has drawn", async () => {
      const { bridge, bridgeAt, system, placed, operators, relayer, requester } = await loadFixture(placedOne);
      await settle(system, placed, makeOutcome(), [1, 2, 3]);
      expect(await bridge.creditOf(requester, NATIVE)).to.equal(0n);
      for (const account of [relayer, ...operators.slice(0, 3)]) {
        await bridge.connect(account).withdraw(NATIVE, account);
      }
      expect(await ethers.provider.getBalance(bridgeAt)).to.equal(0n);
      expect(await bridge.owed(NATIVE)).to.equal(0n);
    });

    it("does not lose the credit when the receiver refuses, or is zero", async () => {
      const { bridge, system, placed, operators } = await loadFixture(placedOne);
      await settle(system, placed, makeOutcome(), [1, 2]);
      const refusing = await ethers.deployContract("HostileCallback");
      const { unitPrice } = placed.order;
      for (const to of [await refusing.getAddress(), ZeroAddress]) {
        await expect(bridge.connect(operators[0]).withdraw(NATIVE, to))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeTransferFailed").withArgs(to, unitPrice);
      }
      expect(await bridge.creditOf(operators[0], NATIVE)).to.equal(unitPrice);
    });

    it("has nothing of a token that was never taken", async () => {
      const { bridge, operators, bridgeAt } = await loadFixture(placedOne);
      await expect(bridge.connect(operators[0]).withdraw(bridgeAt, operators[0]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeNothingToWithdraw")
        .withArgs(operators[0].address, bridgeAt);
    });

    it("does not touch native tokens that were forced in", async () => {
      const { bridge, bridgeAt, system, placed, operators } = await loadFixture(placedOne);
      await ethers.deployContract("ForcedEther", [bridgeAt], { value: 77n });
      expect(await surplus(system)).to.equal(77n);
      await settle(system, placed, makeOutcome(), [1, 2]);
      await bridge.connect(operators[0]).withdraw(NATIVE, operators[0]);
      expect(await surplus(system)).to.equal(77n);
    });
  });
});
