import { expect } from "chai";

import { CHAIN_ID, deployed, ethers, loadFixture, NATIVE, type Placed, settle, time } from "./helpers/fixture.ts";
import {
  CID,
  hex,
  labelHash,
  makeOrder,
  makeOutcome,
  priceOf,
  repeated,
  requestHash,
  ResultKind,
} from "./helpers/wire.ts";

async function fixture() {
  const system = await deployed();
  const book = await ethers.deployContract("ResultBook", [system.bridgeAt]);
  const at = await book.getAddress();
  const callbackGas = await book.CALLBACK_GAS();
  async function ordered(resultKind: number): Promise<Placed> {
    const order = makeOrder({
      resultKind, nodes: 3, quorum: 2, curator: system.curator.address, labels: [labelHash("gpu=yes")],
      callback: at, callbackGas,
    });
    const { spec, nodes, quorum, ttl, curator, labels, unitPrice, failPrice, deliveryFee } = order;
    const prices = [unitPrice, failPrice, deliveryFee] as const;
    await book.order(spec, resultKind, nodes, quorum, ttl, curator, labels, ...prices, { value: priceOf(order) });
    const id = await system.bridge.requestCount();
    return { id, order, requester: at, hash: requestHash(CHAIN_ID, system.bridgeAt, id, at, order) };
  }
  return { ...system, system, book, at, ordered };
}

describe("ResultBook", () => {
  it("orders a job in its own name and keeps the result", async () => {
    const { bridge, system, book, ordered } = await loadFixture(fixture);
    const placed = await ordered(ResultKind.StdOut);
    expect(await bridge.requestHash(placed.id)).to.equal(placed.hash);
    const outcome = makeOutcome({ payload: hex("42\n") });
    await expect(settle(system, placed, outcome, [1, 2]))
      .to.emit(book, "ResultStored").withArgs(placed.id, 1, CID);
    expect(await book.resultOf(placed.id)).to.deep.equal([1n, 0n, 0n, CID, hex("42\n")]);
    expect((await book.resultOf(placed.id + 1n)).status).to.equal(0n);
  });

  it("has gas enough to store the largest outcome", async () => {
    const { bridge, system, book, ordered } = await loadFixture(fixture);
    const placed = await ordered(ResultKind.StdOut);
    const outcome = makeOutcome({ outputCid: repeated("ff", 64), payload: repeated("ff", 8192) });
    await settle(system, placed, outcome, [1, 2]);
    expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(false);
    expect((await book.resultOf(placed.id)).payload).to.equal(outcome.payload);
  });

  it("keeps within its gas budget: 125 000 to order, 240 000 for two nodes' word and a stored CID", async () => {
    const { bridge, book, system, ordered } = await loadFixture(fixture);
    const first = await ordered(ResultKind.Cid);
    await settle(system, first, makeOutcome(), [1, 2]);
    const placed = await ordered(ResultKind.Cid);
    const [requested] = await bridge.queryFilter(bridge.filters.JobRequested(placed.id));
    expect((await requested.getTransactionReceipt()).gasUsed).to.be.lessThan(125_000n);
    const settled = await settle(system, placed, makeOutcome(), [1, 2]);
    expect((await settled.wait())?.gasUsed).to.be.lessThan(240_000n);
    expect((await book.resultOf(placed.id)).status).to.equal(1n);
  });

  it("stores why a job was refused", async () => {
    const { system, book, ordered } = await loadFixture(fixture);
    const placed = await ordered(ResultKind.Cid);
    await settle(system, placed, makeOutcome({ status: 3, reason: 101, outputCid: "0x" }), [1, 2]);
    expect(await book.resultOf(placed.id)).to.deep.equal([3n, 101n, 0n, "0x", "0x"]);
  });

  it("believes the bridge only", async () => {
    const { book, stranger } = await loadFixture(fixture);
    await expect(book.connect(stranger).onJobResult(1, ethers.ZeroHash, makeOutcome()))
      .to.be.revertedWithCustomError(book, "ResultBookNotBridge").withArgs(stranger.address);
  });

  it("takes no result of a request that somebody else ordered, of nodes of his own, with its address", async () => {
    const { bridge, system, book, at, stranger } = await loadFixture(fixture);
    const order = makeOrder({ callback: at, callbackGas: await book.CALLBACK_GAS() });
    await bridge.connect(stranger).requestJob(order, { value: priceOf(order) });
    const hash = requestHash(CHAIN_ID, system.bridgeAt, 1n, stranger.address, order);
    const refusal = book.interface.encodeErrorResult("ResultBookForeignResult", [1n, stranger.address]);
    await expect(settle(system, { id: 1n, order, requester: stranger.address, hash }, makeOutcome(), [1]))
      .to.emit(bridge, "CallbackResult").withArgs(1n, at, false, refusal);
    expect((await book.resultOf(1n)).status).to.equal(0n);
  });

  it("passes on that the payment is wrong", async () => {
    const { bridge, book } = await loadFixture(fixture);
    await expect(book.order("0x20", 0, 1, 1, 60, ethers.ZeroAddress, [], 5n, 0n, 1n, { value: 5n }))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeWrongPayment").withArgs(5, 6);
  });

  it("lets its owner, and nobody else, collect what came back", async () => {
    const { bridge, book, at, owner, stranger, ordered } = await loadFixture(fixture);
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
