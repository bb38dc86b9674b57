/** Lilypad v0's ABI, rules and money, seen by a caller that knows v0's names only. */
import { readFileSync } from "node:fs";

import { expect } from "chai";

import { ethers, lastPlaced, loadFixture, networkHelpers, settle, surplus, time } from "./helpers/fixture.ts";
import { JobState, lilypad, SPEC, spare, TERMS } from "./helpers/lilypad.ts";
import { hex, makeOrder, makeOutcome, repeated, State, Status } from "./helpers/wire.ts";

const CID_TEXT = /^bafkrei[a-z2-7]{52}$/;
const NODE_SHARE = TERMS.fee - TERMS.deliveryFee;
const refusal = makeOutcome({ status: Status.Refused, reason: 101, outputCid: "0x" });

describe("LilypadV0: the ABI of v0", () => {
  const selectors: [string, string][] = [
    ["runLilypadJob(address,string,uint8)", "0x321bbe49"],
    ["runBacalhauJob(address,string,uint8)", "0xd992cac8"],
    ["returnLilypadResults(address,uint256,uint8,string)", "0x5bffa52e"],
    ["returnLilypadError(address,uint256,string)", "0x187e0469"],
    ["getLilypadFee()", "0x4dfb4328"],
  ];
  for (const [signature, selector] of selectors) {
    it(`has ${signature} as ${selector}`, async () => {
      const { v0 } = await loadFixture(lilypad);
      expect(v0.interface.getFunction(signature as never)?.selector).to.equal(selector);
    });
  }

  it("calls back with v0's selectors", async () => {
    const { caller } = await loadFixture(lilypad);
    expect(caller.interface.getFunction("lilypadFulfilled").selector).to.equal("0xd5040d65");
    expect(caller.interface.getFunction("lilypadCancelled").selector).to.equal("0x3487823e");
  });

  it("has v0's events", async () => {
    const { v0 } = await loadFixture(lilypad);
    expect(v0.interface.getEvent("NewLilypadJobSubmitted").topicHash)
      .to.equal("0x030e8da74cb8e98252868a7142190e9baa35809d3680dd07e02b1a1cd73d2e18");
    expect(v0.interface.getEvent("LilypadJobResultsReturned").topicHash)
      .to.equal("0x7e29ffddb6ceb5ffbaa01e8e4ca2b8109e0e2c1b8e1aee05552a62a3dffca3d8");
    expect(v0.interface.getEvent("LilypadEscrowPaid").topicHash)
      .to.equal("0xc2ab7ef76d1e668eead58b0758aebe8c755b2be99f09b8bd00eb960fe14d6e2b");
  });

  it("is known to the example caller by v0's names only", () => {
    const source = readFileSync(new URL("../contracts/examples/LilypadCaller.sol", import.meta.url), "utf8");
    expect([...source.matchAll(/^import.*"(.*)";$/gm)].map(([, path]) => path))
      .to.deep.equal(["../lilypad/LilypadCallerInterface.sol", "../lilypad/LilypadEventsUpgradeable.sol"]);
  });

  it("refuses what v0 left to its operator, and to everybody, and the lists that its events replace", async () => {
    const { v0, stranger } = await loadFixture(lilypad);
    const calls: [string, () => Promise<unknown>][] = [
      ["returnLilypadResults", () => v0.returnLilypadResults(stranger, 1, 1, "7")],
      ["returnLilypadError", () => v0.returnLilypadError(stranger, 1, "no")],
      ["setLilypadFee", () => v0.setLilypadFee(1)],
      ["withdrawBalanceToEscrowAddress", () => v0.withdrawBalanceToEscrowAddress()],
      ["fetchAllJobs", () => v0.fetchAllJobs()],
      ["fetchAllResults", () => v0.fetchAllResults()],
      ["fetchJobsByAddress", () => v0.fetchJobsByAddress(stranger)],
    ];
    for (const [name, call] of calls) {
      await expect(call()).to.be.revertedWithCustomError(v0, "LilypadV0NotSupported")
        .withArgs(v0.interface.getFunction(name as "fetchAllJobs").selector);
    }
  });
});

describe("LilypadV0: ordering", () => {
  it("passes the raw spec on, in dialect 2, and gives the job an id of its own from 1", async () => {
    const { v0, at, caller, bridgeAt, curator, run } = await loadFixture(lilypad);
    const { jobId, placed } = await run();
    expect([jobId, placed.id]).to.deep.equal([1n, 2n]);
    expect(placed.requester).to.equal(at);
    expect(placed.order).to.deep.equal({
      ...makeOrder(), dialect: 2, spec: hex(SPEC), resultKind: 1, ttl: TERMS.ttl, callback: at,
      callbackGas: TERMS.callbackGas, curator: curator.address, unitPrice: NODE_SHARE, failPrice: TERMS.failPrice,
      deliveryFee: TERMS.deliveryFee,
    });
    const callerAt = await caller.getAddress();
    expect(await v0.jobOf(jobId)).to.deep.equal([callerAt, TERMS.fee, callerAt, 2n, 1n, JobState.Open, false]);
    expect([await v0.jobOfRequest(2), await v0.jobOfRequest(1)]).to.deep.equal([1n, 0n]);
    expect(await v0.getLilypadFee()).to.equal(TERMS.fee);
    await expect(caller.run(SPEC, 0, { value: TERMS.fee }))
      .to.emit(v0, "NewLilypadJobSubmitted").withArgs([callerAt, 2n, SPEC, 0n])
      .and.to.emit(v0, "LilypadEscrowPaid").withArgs(bridgeAt, TERMS.fee);
  });

  it("counts two jobs of one transaction as two", async () => {
    const { v0, at, system } = await loadFixture(lilypad);
    const hostile = await ethers.deployContract("HostileLilypadCaller");
    await hostile.runTwice(at, SPEC, { value: 2n * TERMS.fee });
    expect([(await v0.jobOf(1)).requestId, (await v0.jobOf(2)).requestId]).to.deep.equal([2n, 3n]);
    expect((await v0.jobOf(3)).state).to.equal(JobState.Unknown);
    expect((await lastPlaced(system)).id).to.equal(3n);
  });

  it("takes the older entry too", async () => {
    const { v0, system, requester, stranger } = await loadFixture(lilypad);
    await v0.connect(requester).runBacalhauJob(stranger, SPEC, 3, { value: TERMS.fee });
    expect((await lastPlaced(system)).order.resultKind).to.equal(3);
    expect((await v0.jobOf(1)).slice(0, 3)).to.deep.equal([requester.address, TERMS.fee, stranger.address]);
  });

  it("takes any bytes as a spec: an address packed into the JSON goes on as it is", async () => {
    const { v0, system, requester } = await loadFixture(lilypad);
    const raw = `0x7b2261223a22${"c0".repeat(20)}227d`;
    const data = ethers.AbiCoder.defaultAbiCoder().encode(["address", "bytes", "uint8"], [requester.address, raw, 0]);
    await requester.sendTransaction({ to: v0, data: `0x321bbe49${data.slice(2)}`, value: TERMS.fee });
    expect((await lastPlaced(system)).order.spec).to.equal(raw);
  });

  it("gives all that is paid beyond the fee to the node", async () => {
    const { run } = await loadFixture(lilypad);
    expect((await run(1, TERMS.fee + 5n)).placed.order.unitPrice).to.equal(NODE_SHARE + 5n);
  });

  it("refuses less than the fee, and more than there is", async () => {
    const { v0, requester, stranger } = await loadFixture(lilypad);
    const largest = 2n ** 96n - 1n;
    await networkHelpers.setBalance(requester.address, 2n ** 97n);
    for (const value of [0n, TERMS.fee - 1n, largest + 1n]) {
      await expect(v0.connect(requester).runLilypadJob(stranger, SPEC, 1, { value }))
        .to.be.revertedWithCustomError(v0, "LilypadV0WrongFee").withArgs(value, TERMS.fee, largest);
    }
    await v0.connect(requester).runLilypadJob(stranger, SPEC, 1, { value: largest });
    expect((await v0.jobOf(1)).paid).to.equal(largest);
  });

  it("refuses what no bridge could take: a fifth result type, no spec, 16 KiB and a byte", async () => {
    const { v0, bridge, requester, stranger } = await loadFixture(lilypad);
    const rows: [string, number, string][] = [[SPEC, 4, "resultKind"], ["", 0, "spec"], ["x".repeat(16_385), 0, "spec"]];
    for (const [spec, kind, field] of rows) {
      await expect(v0.connect(requester).runLilypadJob(stranger, spec, kind, { value: TERMS.fee }))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs(field);
    }
  });

  it("costs the 200th job of a caller what the 10th costs", async () => {
    const { v0, requester, caller } = await loadFixture(lilypad);
    const spec = `{"Engine":"docker","Docker":{"Image":"${"x".repeat(200)}"}}`.padEnd(250);
    const gas: bigint[] = [];
    for (let i = 0; i < 200; ++i) {
      const sent = await v0.connect(requester).runLilypadJob(caller, spec, 1, { value: TERMS.fee });
      gas.push((await sent.wait())?.gasUsed ?? 0n);
    }
    expect(gas[199] - gas[9]).to.be.within(-200n, 200n);
  });

  it("is not deployed with terms that no order could have", async () => {
    const { v0, bridge, bridgeAt, curator } = await loadFixture(lilypad);
    const deploy = (change: object, by = curator.address) =>
      ethers.deployContract("LilypadV0", [bridgeAt, by, { ...TERMS, ...change }]);
    await expect(deploy({}, ethers.ZeroAddress)).to.be.revertedWithCustomError(v0, "ComputeClientNoCurator");
    await expect(deploy({ ttl: 1 })).to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("ttl");
    await expect(deploy({ callbackGas: 0 })).to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("callbackGas");
    await expect(deploy({ failPrice: NODE_SHARE + 1n }))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("failPrice");
    await expect(deploy({ fee: TERMS.deliveryFee - 1n })).to.be.revertedWithPanic(0x11);
  });
});

describe("LilypadV0: results", () => {
  const rows: [string, number, object, string | RegExp][] = [
    ["a CID as text", 0, {}, CID_TEXT],
    ["standard output, byte for byte", 1, { payload: hex("0x2a\n ") }, "0x2a\n "],
    ["empty standard output", 1, { payload: "0x" }, ""],
    ["8 KiB of standard output", 1, { payload: repeated("61", 8192) }, "a".repeat(8192)],
    ["standard error", 2, { payload: hex("warning") }, "warning"],
    ["the exit code", 3, { payload: hex("0") }, "0"],
    ["an exit code that is not zero", 3, { status: Status.Failed, reason: 200, exitCode: 3, payload: hex("3") }, "3"],
  ];
  for (const [what, kind, change, text] of rows) {
    it(`brings ${what}`, async () => {
      const { v0, at, caller, run, end } = await loadFixture(lilypad);
      const { jobId, placed } = await run(kind);
      const callerAt = await caller.getAddress();
      // 8 KiB in the caller's storage is more than a delivery's gas: the caller is called again.
      const outcome = makeOutcome(change);
      await end(placed, outcome);
      if ((await v0.jobOf(jobId)).undelivered) await v0.retryCaller(jobId, placed.hash, outcome);
      const result = await caller.results(jobId);
      if (text instanceof RegExp) expect(result).to.match(text);
      else expect(result).to.equal(text);
      const [{ args }] = await v0.queryFilter(v0.filters.LilypadJobResultsReturned());
      expect(args.result).to.deep.equal([callerAt, jobId, true, result, BigInt(kind)]);
      expect((await v0.jobOf(jobId)).slice(5)).to.deep.equal([JobState.Fulfilled, false]);
      expect(await caller.errors(jobId)).to.equal("");
      expect(at).to.equal(await caller.bridgeAddress());
    });
  }

  it("are exact where they are no UTF-8", async () => {
    const { v0, caller, run, end } = await loadFixture(lilypad);
    const { jobId, placed } = await run(1);
    await end(placed, makeOutcome({ payload: "0xff00fe" }));
    const data = caller.interface.encodeFunctionData("results", [jobId]);
    const [raw] = ethers.AbiCoder.defaultAbiCoder().decode(["bytes"], await ethers.provider.call({ to: caller, data }));
    expect(raw).to.equal("0xff00fe");
    expect((await v0.jobOf(jobId)).state).to.equal(JobState.Fulfilled);
  });

  it("come from the bridge only", async () => {
    const { v0, stranger, run } = await loadFixture(lilypad);
    const { placed } = await run();
    await expect(v0.connect(stranger).onJobResult(placed.id, placed.hash, makeOutcome()))
      .to.be.revertedWithCustomError(v0, "ComputeClientNotBridge").withArgs(stranger.address);
  });

  it("of a request that somebody else ordered with this contract's address are ignored", async () => {
    const { v0, at, bridge, system, stranger, curator } = await loadFixture(lilypad);
    const order = makeOrder({ callback: at, callbackGas: 1_000_000n, curator: curator.address, unitPrice: 0n, failPrice: 0n, deliveryFee: 0n });
    await bridge.connect(stranger).requestJob(order);
    await expect(settle(system, await lastPlaced(system), makeOutcome(), [1])).to.emit(v0, "ForeignResultIgnored").withArgs(2n);
  });
});

describe("LilypadV0: refunds", () => {
  const rows: [string, object, bigint, string][] = [
    ["refused", { status: Status.Refused, reason: 101, outputCid: "0x" }, NODE_SHARE, "refused, reason 101"],
    ["withheld", { status: Status.Withheld, reason: 300, outputCid: "0x" }, NODE_SHARE, "withheld, reason 300"],
    ["failed", { status: Status.Failed, reason: 201, outputCid: "0x" }, NODE_SHARE - TERMS.failPrice, "failed, reason 201"],
  ];
  for (const [what, change, refund, message] of rows) {
    it(`a job that was ${what} is cancelled, and its payer gets ${refund} back by anyone's push`, async () => {
      const parts = await loadFixture(lilypad);
      const { v0, caller, stranger, run, end } = parts;
      const { jobId, placed } = await run();
      const callerAt = await caller.getAddress();
      await expect(end(placed, makeOutcome(change)))
        .to.emit(v0, "LilypadJobResultsReturned").withArgs([callerAt, jobId, false, message, 1n])
        .and.to.emit(v0, "RefundBooked").withArgs(callerAt, jobId, refund)
        .and.to.emit(v0, "CallerCalled").withArgs(jobId, callerAt, true, "0x");
      expect(await v0.queryFilter(v0.filters.RefundPushed())).to.deep.equal([]);
      expect(await caller.errors(jobId)).to.equal(message);
      expect((await v0.jobOf(jobId)).state).to.equal(JobState.Cancelled);
      expect([await v0.refundOf(caller), await v0.owedRefunds()]).to.deep.equal([refund, refund]);
      await expect(v0.connect(stranger).pushRefund(caller)).to.changeEtherBalance(ethers, caller, refund);
      expect([await v0.owedRefunds(), await spare(parts)]).to.deep.equal([0n, 0n]);
      await expect(v0.pushRefund(caller)).to.be.revertedWithCustomError(v0, "PayerRefundsNothingOwed").withArgs(callerAt);
    });
  }

  it("are pushed in the delivery itself where money is at hand", async () => {
    const parts = await loadFixture(lilypad);
    const { v0, caller, run, end } = parts;
    const jobs = [await run(), await run(), await run()];
    await end(jobs[0].placed, refusal);
    await end(jobs[1].placed, refusal);
    await v0.pushRefund(caller);
    expect(await v0.owedRefunds()).to.equal(0n);
    const forced = await ethers.deployContract("ForcedEther", [v0], { value: NODE_SHARE });
    await forced.waitForDeployment();
    await expect(end(jobs[2].placed, refusal)).to.changeEtherBalance(ethers, caller, NODE_SHARE);
    expect(await v0.owedRefunds()).to.equal(0n);
    expect(await spare(parts)).to.equal(NODE_SHARE);
  });

  it("give back what an exit code that is not zero leaves of the price", async () => {
    const { v0, caller, run, end } = await loadFixture(lilypad);
    const { placed } = await run(3);
    await end(placed, makeOutcome({ status: Status.Failed, reason: 200, exitCode: 3, payload: hex("3") }));
    expect(await v0.refundOf(caller)).to.equal(NODE_SHARE - TERMS.failPrice);
  });

  const failed: [string, number, string][] = [["the output of a job that failed", 1, "partial"], ["an exit code that nobody told", 3, ""]];
  for (const [what, kind, payload] of failed) {
    it(`are for ${what} too: it is no result`, async () => {
      const { v0, caller, run, end } = await loadFixture(lilypad);
      const { jobId, placed } = await run(kind);
      await end(placed, makeOutcome({ status: Status.Failed, reason: 200, exitCode: 3, payload: hex(payload) }));
      expect([await caller.results(jobId), await caller.errors(jobId)]).to.deep.equal(["", "failed, reason 200"]);
      expect((await v0.jobOf(jobId)).state).to.equal(JobState.Cancelled);
    });
  }

  it("give back everything, the delivery fee too, where nobody answered", async () => {
    const parts = await loadFixture(lilypad);
    const { v0, caller, run, expire, stranger } = parts;
    const { jobId, placed } = await run(1, TERMS.fee + 7n);
    await expire(placed);
    const close = v0.connect(stranger).closeJob(jobId, { gasLimit: 4_000_000 });
    await expect(close).to.changeEtherBalance(ethers, caller, TERMS.fee + 7n);
    await expect(close).to.emit(v0, "LilypadJobResultsReturned").withArgs([await caller.getAddress(), jobId, false, "expired", 1n]);
    expect(await caller.errors(jobId)).to.equal("expired");
    expect(await spare(parts)).to.equal(0n);
    expect(await surplus(parts)).to.equal(0n);
  });

  it("give back everything where the payer cancelled", async () => {
    const parts = await loadFixture(lilypad);
    const { v0, bridge, requester, caller, stranger, system } = parts;
    await v0.connect(requester).runLilypadJob(caller, SPEC, 1, { value: TERMS.fee });
    const placed = await lastPlaced(system);
    await expect(v0.connect(stranger).cancelJob(1, placed.order))
      .to.be.revertedWithCustomError(v0, "LilypadV0NotPayer").withArgs(1, stranger.address);
    await v0.connect(requester).cancelJob(1, placed.order);
    await time.increase(601);
    await bridge.drawCancelled(placed.id, placed.order);
    await expect(v0.closeJob(1, { gasLimit: 4_000_000 })).to.changeEtherBalance(ethers, requester, TERMS.fee);
    expect(await caller.errors(1)).to.equal("cancelled");
    expect(await spare(parts)).to.equal(0n);
  });

  it("go to whoever paid, not to whom the job names", async () => {
    const { v0, system, requester, caller, end } = await loadFixture(lilypad);
    await v0.connect(requester).runLilypadJob(caller, SPEC, 1, { value: TERMS.fee });
    await end(await lastPlaced(system), refusal);
    expect([await v0.refundOf(requester), await v0.refundOf(caller)]).to.deep.equal([NODE_SHARE, 0n]);
  });

  it("never exceed what the bridge gave back: a delivery fee that nobody earned stays", async () => {
    const parts = await loadFixture(lilypad);
    const { run, end, v0, caller } = parts;
    await end((await run()).placed, refusal, ethers.ZeroAddress);
    await v0.pushRefund(caller);
    expect(await spare(parts)).to.equal(TERMS.deliveryFee);
  });

  it("are not to be had for a job that is open, ended, or none", async () => {
    const { v0, run, end, expire } = await loadFixture(lilypad);
    const first = await run();
    const second = await run();
    await expect(v0.closeJob(first.jobId)).to.be.revertedWithCustomError(v0, "LilypadV0NotRefundable")
      .withArgs(1, JobState.Open, State.Requested);
    await end(first.placed, makeOutcome());
    await expect(v0.closeJob(1)).to.be.revertedWithCustomError(v0, "LilypadV0NotRefundable")
      .withArgs(1, JobState.Fulfilled, State.Fulfilled);
    await expire(second.placed);
    await v0.closeJob(2, { gasLimit: 4_000_000 });
    await expect(v0.closeJob(2)).to.be.revertedWithCustomError(v0, "LilypadV0NotRefundable")
      .withArgs(2, JobState.Cancelled, State.Expired);
    await expect(v0.closeJob(9)).to.be.revertedWithCustomError(v0, "LilypadV0NotRefundable")
      .withArgs(9, JobState.Unknown, State.Unknown);
  });

  it("wait for a transaction with the gas of a delivery", async () => {
    const { v0, run, expire } = await loadFixture(lilypad);
    const { jobId, placed } = await run();
    await expire(placed);
    await expect(v0.closeJob(jobId, { gasLimit: 1_000_000 })).to.be.revertedWithCustomError(v0, "LilypadV0InsufficientGas")
      .withArgs((available: bigint) => available < TERMS.callbackGas, TERMS.callbackGas);
  });

  it("leave no way in for other money", async () => {
    const { v0, stranger } = await loadFixture(lilypad);
    await expect(stranger.sendTransaction({ to: v0, value: 1n }))
      .to.be.revertedWithCustomError(v0, "PayerRefundsNotBridge").withArgs(stranger.address);
  });
});
