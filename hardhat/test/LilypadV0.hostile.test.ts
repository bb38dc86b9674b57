/** Callers and payers of LilypadV0 that revert, burn, flood, re-enter: the node is paid, the outcome kept, the refund owed. */
import { expect } from "chai";

import { ethers, lastPlaced, loadFixture, NATIVE, time } from "./helpers/fixture.ts";
import { JobState, lilypad, SPEC, spare, TERMS } from "./helpers/lilypad.ts";
import { hex, makeOutcome, Status } from "./helpers/wire.ts";

const Mode = { Accept: 0, Revert: 1, BurnGas: 2, ReturnBomb: 3, RevertBomb: 4, Call: 5, NeedGas: 6, Alternate: 7 };
const NODE_SHARE = TERMS.fee - TERMS.deliveryFee;
const REFUSED = makeOutcome({ status: Status.Refused, reason: 101, outputCid: "0x" });
const ANSWER = makeOutcome({ payload: hex("42") });
const GAS = { gasLimit: 4_000_000 };

async function fixture() {
  const parts = await lilypad();
  const { v0, system, at } = parts;
  const hostile = await ethers.deployContract("HostileLilypadCaller");
  const hostileAt = await hostile.getAddress();
  const run = async () => {
    await hostile.run(at, SPEC, 1, { value: TERMS.fee });
    return lastPlaced(system);
  };
  return { ...parts, hostile, hostileAt, run, placed: await run(), v0 };
}

describe("LilypadV0: hostile callers", () => {
  const rows: [string, number, boolean][] = [
    ["revert", Mode.Revert, false],
    ["burn all their gas", Mode.BurnGas, false],
    ["return 1 MB", Mode.ReturnBomb, true],
    ["revert with 1 MB", Mode.RevertBomb, false],
  ];
  for (const [what, mode, success] of rows) {
    it(`that ${what} in lilypadFulfilled lose nobody anything`, async () => {
      const parts = await loadFixture(fixture);
      const { v0, bridge, hostile, hostileAt, placed, operators, relayer, end } = parts;
      await hostile.setModes(mode, Mode.Accept);
      const delivery = await end(placed, ANSWER);
      const [{ args }] = await v0.queryFilter(v0.filters.CallerCalled());
      expect(args.slice(0, 3)).to.deep.equal([1n, hostileAt, success]);
      expect(ethers.dataLength(args.returnData)).to.be.at.most(256);
      await expect(delivery).to.emit(bridge, "CallbackResult").withArgs(placed.id, await v0.getAddress(), true, "0x");
      expect((await v0.jobOf(1)).slice(5)).to.deep.equal([JobState.Fulfilled, !success]);
      expect([await bridge.creditOf(operators[0], NATIVE), await bridge.creditOf(relayer, NATIVE)])
        .to.deep.equal([NODE_SHARE, TERMS.deliveryFee]);
      expect(await spare(parts)).to.equal(0n);
    });

    it(`that ${what} in lilypadCancelled are owed their refund all the same`, async () => {
      const parts = await loadFixture(fixture);
      const { v0, hostile, placed, end, stranger } = parts;
      await hostile.setModes(mode, Mode.Accept);
      await end(placed, REFUSED);
      expect((await v0.jobOf(1)).slice(5)).to.deep.equal([JobState.Cancelled, !success]);
      await expect(v0.connect(stranger).pushRefund(hostile)).to.changeEtherBalance(ethers, hostile, NODE_SHARE);
      expect(await spare(parts)).to.equal(0n);
    });

    it(`that ${what} cannot keep an expired job open`, async () => {
      const parts = await loadFixture(fixture);
      const { v0, hostile, placed, expire } = parts;
      await hostile.setModes(mode, Mode.Accept);
      await expire(placed);
      await expect(v0.closeJob(1, GAS)).to.changeEtherBalance(ethers, hostile, TERMS.fee);
      expect((await v0.jobOf(1)).slice(5)).to.deep.equal([JobState.Cancelled, !success]);
    });
  }

  it("get an answer again that they missed, once, with all the gas that is brought", async () => {
    const { v0, hostile, hostileAt, placed, end, stranger } = await loadFixture(fixture);
    await hostile.setNeededGas(4_000_000);
    await end(placed, ANSWER);
    const retry = (gasLimit: number) => v0.connect(stranger).retryCaller(1, placed.hash, ANSWER, { gasLimit });
    await expect(retry(2_000_000)).to.be.revertedWithCustomError(v0, "LilypadV0InsufficientGas")
      .withArgs((available: bigint) => available < TERMS.callbackGas, TERMS.callbackGas);
    await expect(retry(4_000_000)).to.emit(v0, "CallerCalled")
      .withArgs(1, hostileAt, false, hostile.interface.encodeErrorResult("HostileLilypadCallerRefuses"));
    await expect(retry(8_000_000)).to.emit(v0, "CallerCalled").withArgs(1, hostileAt, true, "0x");
    expect([await hostile.calls(), await hostile.fulfilled(), await hostile.lastText()]).to.deep.equal([1n, true, "42"]);
    await expect(retry(8_000_000)).to.be.revertedWithCustomError(v0, "LilypadV0NothingToRetry").withArgs(1);
  });

  it("get the cancellation again that they missed, however it came about", async () => {
    const { v0, bridge, requester, hostile, placed, run, end, system } = await loadFixture(fixture);
    const expiring = await run();
    await v0.connect(requester).runLilypadJob(hostile, SPEC, 1, { value: TERMS.fee });
    const cancelled = await lastPlaced(system);
    await hostile.setModes(Mode.Revert, Mode.Accept);
    await end(placed, REFUSED);
    await v0.connect(requester).cancelJob(3, cancelled.order);
    await time.increase(TERMS.ttl + 1);
    await bridge.expire(expiring.id, expiring.order);
    await bridge.drawCancelled(cancelled.id, cancelled.order);
    await v0.closeJob(2, GAS);
    await v0.closeJob(3, GAS);
    await hostile.setModes(Mode.Accept, Mode.Accept);
    const rows = [
      [1n, placed.hash, REFUSED, "refused, reason 101"],
      [2n, ethers.ZeroHash, ANSWER, "expired"],
      [3n, ethers.ZeroHash, ANSWER, "cancelled"],
    ] as const;
    for (const [jobId, hash, outcome, text] of rows) {
      await v0.retryCaller(jobId, hash, outcome, GAS);
      expect([await hostile.lastJob(), await hostile.fulfilled(), await hostile.lastText()]).to.deep.equal([jobId, false, text]);
    }
  });

  it("may order their next job when they are called back", async () => {
    const { v0, hostile, hostileAt, placed, end, requester } = await loadFixture(fixture);
    await requester.sendTransaction({ to: hostile, value: TERMS.fee });
    await hostile.setCall(v0, v0.interface.encodeFunctionData("runLilypadJob", [hostileAt, "next", 1]), TERMS.fee);
    await hostile.setModes(Mode.Call, Mode.Accept);
    await end(placed, ANSWER);
    expect([await hostile.innerSuccess(), (await v0.jobOf(2)).state]).to.deep.equal([true, JobState.Open]);
  });

  it("are never told another outcome than the bridge's", async () => {
    const { v0, hostile, placed, end } = await loadFixture(fixture);
    await hostile.setModes(Mode.Revert, Mode.Accept);
    await end(placed, ANSWER);
    for (const [hash, outcome] of [[placed.hash, makeOutcome({ payload: hex("43") })], [ethers.ZeroHash, ANSWER]] as const) {
      await expect(v0.retryCaller(1, hash, outcome, GAS)).to.be.revertedWithCustomError(v0, "LilypadV0OutcomeMismatch").withArgs(1);
    }
    await expect(v0.retryCaller(9, placed.hash, ANSWER)).to.be.revertedWithCustomError(v0, "LilypadV0NothingToRetry").withArgs(9);
  });

  describe("that re-enter get nothing twice, by", () => {
    const reentries: [string, (v0: Awaited<ReturnType<typeof fixture>>) => string][] = [
      ["pushRefund", ({ v0, hostileAt }) => v0.interface.encodeFunctionData("pushRefund", [hostileAt])],
      ["pushRefundWithGas", ({ v0, hostileAt }) => v0.interface.encodeFunctionData("pushRefundWithGas", [hostileAt, 1_000_000])],
      ["closeJob", ({ v0 }) => v0.interface.encodeFunctionData("closeJob", [1])],
      ["retryCaller", ({ v0, placed }) => v0.interface.encodeFunctionData("retryCaller", [1, placed.hash, REFUSED])],
      ["cancelJob", ({ v0, placed }) => v0.interface.encodeFunctionData("cancelJob", [1, placed.order])],
      ["onJobResult", ({ v0, placed }) => v0.interface.encodeFunctionData("onJobResult", [placed.id, placed.hash, REFUSED])],
      ["runLilypadJob without money", ({ v0, hostileAt }) => v0.interface.encodeFunctionData("runLilypadJob", [hostileAt, SPEC, 1])],
    ];
    for (const [name, encode] of reentries) {
      it(name, async () => {
        const parts = await loadFixture(fixture);
        const { v0, hostile, placed, end } = parts;
        await hostile.setCall(v0, encode(parts), 0);
        await hostile.setModes(Mode.Call, Mode.Call);
        await end(placed, REFUSED);
        expect([await hostile.calls(), await hostile.innerSuccess()]).to.deep.equal([1n, false]);
        await v0.pushRefund(hostile, GAS);
        expect([await ethers.provider.getBalance(hostile), await v0.owedRefunds()]).to.deep.equal([NODE_SHARE, 0n]);
        expect(await spare(parts)).to.equal(0n);
      });
    }

    it("closeJob while an expired job is closed", async () => {
      const parts = await loadFixture(fixture);
      const { v0, hostile, placed, expire } = parts;
      await hostile.setCall(v0, v0.interface.encodeFunctionData("closeJob", [1]), 0);
      await hostile.setModes(Mode.Call, Mode.Call);
      await expire(placed);
      await v0.closeJob(1, GAS);
      expect([await ethers.provider.getBalance(hostile), await hostile.innerSuccess()]).to.deep.equal([TERMS.fee, false]);
      expect(await spare(parts)).to.equal(0n);
    });
  });
});

describe("LilypadV0: payers that will not be paid", () => {
  const rows: [string, number][] = [
    ["revert", Mode.Revert],
    ["burn all their gas", Mode.BurnGas],
    ["revert with 1 MB", Mode.RevertBomb],
    ["return 1 MB, beyond the gas of a push", Mode.ReturnBomb],
  ];
  for (const [what, mode] of rows) {
    it(`and ${what} keep their credit, harm nobody, and can be pushed to again`, async () => {
      const parts = await loadFixture(fixture);
      const { v0, hostile, hostileAt, placed, caller, end, stranger } = parts;
      await caller.run(SPEC, 1, { value: TERMS.fee });
      const honest = await lastPlaced(parts.system);
      await hostile.setModes(Mode.Accept, mode);
      await end(placed, REFUSED);
      await end(honest, REFUSED);
      const push = await v0.connect(stranger).pushRefund(hostile, GAS);
      await expect(push).to.emit(v0, "RefundPushed").withArgs(hostileAt, NODE_SHARE, false);
      expect((await push.wait())?.gasUsed).to.be.lessThan(TERMS.pushGas + 150_000n);
      expect([await v0.refundOf(hostile), await v0.owedRefunds()]).to.deep.equal([NODE_SHARE, 2n * NODE_SHARE]);
      await expect(v0.pushRefund(caller)).to.changeEtherBalance(ethers, caller, NODE_SHARE);
      await hostile.setModes(Mode.Accept, Mode.Accept);
      await expect(v0.pushRefund(hostile)).to.changeEtherBalance(ethers, hostile, NODE_SHARE);
      expect([await v0.owedRefunds(), await spare(parts)]).to.deep.equal([0n, 0n]);
    });
  }

  it("and need more gas than a push brings are paid by whoever brings it", async () => {
    const parts = await loadFixture(fixture);
    const { v0, hostile, hostileAt, placed, end, stranger } = parts;
    await hostile.setNeededGas(2_000_000);
    await hostile.setModes(Mode.Accept, Mode.NeedGas);
    await end(placed, REFUSED);
    const call = v0.connect(stranger);
    const failed = [
      call.pushRefund(hostile, GAS),
      call.pushRefundWithGas(hostile, 1_990_000, GAS),
      call.pushRefundWithGas(hostile, 3_000_000, { gasLimit: 1_500_000 }),
    ];
    for (const push of failed) await expect(push).to.emit(v0, "RefundPushed").withArgs(hostileAt, NODE_SHARE, false);
    await expect(call.pushRefundWithGas(hostile, 2_100_000, GAS)).to.changeEtherBalance(ethers, hostile, NODE_SHARE);
    await expect(call.pushRefundWithGas(hostile, 2_100_000)).to.be.revertedWithCustomError(v0, "PayerRefundsNothingOwed");
    expect(await spare(parts)).to.equal(0n);
  });

  it("lose nothing by a stranger's push with too little gas", async () => {
    const parts = await loadFixture(fixture);
    const { v0, hostile, placed, end, stranger } = parts;
    await hostile.setModes(Mode.Accept, Mode.Accept);
    await end(placed, REFUSED);
    for (let gasLimit = 30_000; gasLimit < 200_000; gasLimit += 2_000) {
      // Too little for the call itself takes everything back; a push that fails leaves the credit.
      const sent = await v0.connect(stranger).pushRefund(hostile, { gasLimit }).catch(() => undefined);
      await sent?.wait().catch(() => undefined);
      const paid = await ethers.provider.getBalance(hostile);
      expect([await v0.refundOf(hostile) + paid, await spare(parts)]).to.deep.equal([NODE_SHARE, 0n]);
      if (paid !== 0n) return;
    }
    expect.fail("no gas was enough");
  });

  it("every second time are paid in the end", async () => {
    const parts = await loadFixture(fixture);
    const { v0, hostile, placed, run, end } = parts;
    const second = await run();
    await hostile.setModes(Mode.Accept, Mode.Alternate);
    await end(placed, REFUSED);
    await v0.pushRefund(hostile);
    await end(second, REFUSED);
    await v0.pushRefund(hostile, GAS);
    expect(await v0.refundOf(hostile)).to.equal(NODE_SHARE);
    await hostile.setModes(Mode.Accept, Mode.Accept);
    await v0.pushRefund(hostile, GAS);
    expect([await ethers.provider.getBalance(hostile), await spare(parts)]).to.deep.equal([2n * NODE_SHARE, 0n]);
  });
});
