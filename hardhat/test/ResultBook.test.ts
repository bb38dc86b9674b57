import { expect } from "chai";

import { CHAIN_ID, ethers, loadFixture, NATIVE, settle, time } from "./helpers/fixture.ts";
import { resultBook } from "./helpers/resultbook.ts";
import { CID, hex, makeOrder, makeOutcome, priceOf, repeated, requestHash, ResultKind } from "./helpers/wire.ts";

describe("ResultBook", () => {
  it("orders a job in its own name and keeps the result", async () => {
    const { bridge, system, book, ordered } = await loadFixture(resultBook);
    const placed = await ordered(ResultKind.StdOut);
    expect(await bridge.requestHash(placed.id)).to.equal(placed.hash);
    const outcome = makeOutcome({ payload: hex("42\n") });
    await expect(settle(system, placed, outcome, [1, 2]))
      .to.emit(book, "ResultStored").withArgs(placed.id, 1, CID);
    expect(await book.resultOf(placed.id)).to.deep.equal([1n, 0n, 0n, CID, hex("42\n")]);
    expect((await book.resultOf(placed.id + 1n)).status).to.equal(0n);
  });

  it("has gas enough to store the largest outcome", async () => {
    const { bridge, system, book, ordered } = await loadFixture(resultBook);
    const placed = await ordered(ResultKind.StdOut);
    const outcome = makeOutcome({ outputCid: repeated("ff", 64), payload: repeated("ff", 8192) });
    await settle(system, placed, outcome, [1, 2]);
    expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(false);
    expect((await book.resultOf(placed.id)).payload).to.equal(outcome.payload);
  });

  it("stores why a job was refused", async () => {
    const { system, book, ordered } = await loadFixture(resultBook);
    const placed = await ordered(ResultKind.Cid);
    await settle(system, placed, makeOutcome({ status: 3, reason: 101, outputCid: "0x" }), [1, 2]);
    expect(await book.resultOf(placed.id)).to.deep.equal([3n, 101n, 0n, "0x", "0x"]);
  });

  it("believes the bridge only", async () => {
    const { book, stranger } = await loadFixture(resultBook);
    await expect(book.connect(stranger).onJobResult(1, ethers.ZeroHash, makeOutcome()))
      .to.be.revertedWithCustomError(book, "ResultBookNotBridge").withArgs(stranger.address);
  });

  it("takes no result of a request that somebody else ordered, of nodes of his own, with its address", async () => {
    const { bridge, system, book, at, stranger } = await loadFixture(resultBook);
    const order = makeOrder({ callback: at, callbackGas: await book.CALLBACK_GAS() });
    await bridge.connect(stranger).requestJob(order, { value: priceOf(order) });
    const hash = requestHash(CHAIN_ID, system.bridgeAt, 1n, stranger.address, order);
    const refusal = book.interface.encodeErrorResult("ResultBookForeignResult", [1n, stranger.address]);
    await expect(settle(system, { id: 1n, order, requester: stranger.address, hash }, makeOutcome(), [1]))
      .to.emit(bridge, "CallbackResult").withArgs(1n, at, false, refusal);
    expect((await book.resultOf(1n)).status).to.equal(0n);
  });

  it("passes on that the payment is wrong", async () => {
    const { bridge, book } = await loadFixture(resultBook);
    await expect(book.order("0x20", 0, 1, 1, 60, ethers.ZeroAddress, [], 5n, 0n, 1n, { value: 5n }))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeWrongPayment").withArgs(5, 6);
  });

  it("lets its owner, and nobody else, collect what came back", async () => {
    const { bridge, book, at, owner, stranger, ordered } = await loadFixture(resultBook);
    const placed = await ordered(ResultKind.Cid);
    await time.increase(placed.order.ttl + 1);
    await bridge.expire(placed.id, placed.order);
    await expect(book.connect(stranger).collect(stranger))
      .to.be.revertedWithCustomError(book, "ResultBookNotOwner").withArgs(stranger.address);
    await expect(book.connect(owner).collect(stranger))
      .to.changeEtherBalance(ethers, stranger, priceOf(placed.order));
    expect(await bridge.creditOf(at, NATIVE)).to.equal(0n);
    expect([await book.BRIDGE(), await book.OWNER()]).to.deep.equal([await bridge.getAddress(), owner.address]);
  });
});
