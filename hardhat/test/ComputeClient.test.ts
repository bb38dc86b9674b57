import { expect } from "chai";

import { CHAIN_ID, deployed, ethers, loadFixture, NATIVE, type Placed, settle, time } from "./helpers/fixture.ts";
import { CID, hex, labelHash, makeOrder, makeOutcome, type Order, plainOrder, priceOf, requestHash, State } from "./helpers/wire.ts";

async function fixture() {
  const system = await deployed();
  const client = await ethers.deployContract("ClientHarness", [system.bridgeAt]);
  const at = await client.getAddress();
  const base: Order = makeOrder({ callback: at, callbackGas: 500_000n, curator: system.curator.address });
  async function ordered(change: Partial<Order> = {}): Promise<Placed> {
    const order = { ...base, ...change };
    await client.request(order, { value: priceOf(order) });
    const id = await system.bridge.requestCount();
    return { id, order, requester: at, hash: requestHash(CHAIN_ID, system.bridgeAt, id, at, order) };
  }
  return { ...system, system, client, at, base, ordered };
}

describe("ComputeClient", () => {
  it("is for one bridge", async () => {
    const { client, bridgeAt, stranger } = await loadFixture(fixture);
    expect(await client.computeBridge()).to.equal(bridgeAt);
    await expect(ethers.deployContract("ClientHarness", [stranger.address]))
      .to.be.revertedWithCustomError(client, "ComputeClientInvalidBridge").withArgs(stranger.address);
  });

  it("fills in an order with safe defaults, which the bridge takes as it is", async () => {
    const { client, bridge, at, curator } = await loadFixture(fixture);
    const order = plainOrder(await client.newOrder(hex("{}"), curator.address, 70n));
    expect(order).to.deep.equal({
      version: 1, dialect: 1, specIsCid: false, spec: hex("{}"), resultKind: 0, nodes: 1, quorum: 1, ttl: 3600,
      callback: at, callbackGas: 500_000n, curator: curator.address, labels: [], token: NATIVE,
      unitPrice: 70n, failPrice: 0n, deliveryFee: 0n,
    });
    expect(await client.quote(order)).to.equal(70n);
    await client.request(order, { value: 70n });
    expect((await bridge.requestOf(1)).requester).to.equal(at);
  });

  it("orders in its own name and is called back", async () => {
    const { client, system, ordered } = await loadFixture(fixture);
    const placed = await ordered({ resultKind: 1 });
    await settle(system, placed, makeOutcome({ payload: hex("42\n") }), [1]);
    expect(await client.results()).to.equal(1n);
    expect([await client.lastId(), await client.lastRequestHash(), await client.lastPayload()])
      .to.deep.equal([placed.id, placed.hash, hex("42\n")]);
  });

  it("quotes what the bridge takes, and passes on what the bridge refuses", async () => {
    const { client, bridge, base } = await loadFixture(fixture);
    expect(await client.quote(base)).to.equal(priceOf(base));
    await expect(client.quote({ ...base, nodes: 0 }))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("nodes");
    await expect(client.request(base, { value: 5n }))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeWrongPayment").withArgs(5n, priceOf(base));
  });

  it("refuses orders without a curator, until a dApp decides otherwise", async () => {
    const { client, bridge, base } = await loadFixture(fixture);
    const open = { ...base, curator: ethers.ZeroAddress, labels: [labelHash("gpu=yes")] };
    await expect(client.request(open, { value: priceOf(open) })).to.be.revertedWithCustomError(client, "ComputeClientNoCurator");
    await expect(client.quote(open)).to.be.revertedWithCustomError(client, "ComputeClientNoCurator");
    await client.acceptAnyNode();
    await client.request(open, { value: priceOf(open) });
    expect(await bridge.requestCount()).to.equal(1n);
  });

  it("believes the bridge only", async () => {
    const { client, stranger } = await loadFixture(fixture);
    await expect(client.connect(stranger).onJobResult(1, ethers.ZeroHash, makeOutcome()))
      .to.be.revertedWithCustomError(client, "ComputeClientNotBridge").withArgs(stranger.address);
  });

  it("ignores the result of a request that somebody else ordered with its address", async () => {
    const { client, bridge, system, base, stranger } = await loadFixture(fixture);
    await bridge.connect(stranger).requestJob(base, { value: priceOf(base) });
    const placed = {
      id: 1n, order: base, requester: stranger.address,
      hash: requestHash(CHAIN_ID, system.bridgeAt, 1n, stranger.address, base),
    };
    await expect(settle(system, placed, makeOutcome(), [1]))
      .to.emit(client, "ForeignResultIgnored").withArgs(1n)
      .and.to.emit(bridge, "CallbackResult").withArgs(1n, await client.getAddress(), true, "0x");
    expect(await client.results()).to.equal(0n);
  });

  it("orders in an ERC-20 that it lets the bridge take, and collects what came back in it", async () => {
    const { client, bridge, system, base, at, stranger, requester } = await loadFixture(fixture);
    const token = await ethers.deployContract("HostileToken");
    const order = { ...base, token: await token.getAddress() };
    await token.mint(client, priceOf(order) + 1n);
    await client.requestIn(token, order);
    expect([await token.balanceOf(client), await token.balanceOf(bridge)]).to.deep.equal([1n, priceOf(order)]);
    const hash = requestHash(CHAIN_ID, system.bridgeAt, 1n, at, order);
    const refused = makeOutcome({ status: 3, reason: 101, outputCid: "0x" });
    await settle(system, { id: 1n, order, requester: at, hash }, refused, [1]);
    expect(await client.collect.staticCall(stranger)).to.equal(0n);
    await client.connect(requester).collectIn(token, stranger);
    expect(await token.balanceOf(stranger)).to.equal(BigInt(order.nodes) * order.unitPrice);
    expect(await client.collectIn.staticCall(token, stranger)).to.equal(0n);
  });

  it("collects what came back", async () => {
    const { client, bridge, ordered, stranger, at } = await loadFixture(fixture);
    const placed = await ordered();
    expect(await client.refundable()).to.equal(0n);
    await client.collect(stranger);
    await time.increase(placed.order.ttl + 1);
    await bridge.expire(placed.id, placed.order);
    expect((await bridge.resultOf(placed.id)).state).to.equal(State.Expired);
    expect(await client.refundable()).to.equal(priceOf(placed.order));
    await expect(client.collect(stranger)).to.changeEtherBalance(ethers, stranger, priceOf(placed.order));
    expect(await bridge.creditOf(at, NATIVE)).to.equal(0n);
  });
});

describe("ResultText", () => {
  it("writes a binary CIDv1 as the text that everybody knows", async () => {
    const { client } = await loadFixture(fixture);
    const rows: [string, string][] = [
      // CIDs of the empty raw block, of the empty directory, and of docs/spec.md's example
      ["0x01551220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"],
      ["0x0170122059948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef", "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"],
      ["0x", ""],
      ["0xff", "b74"],
    ];
    for (const [bytes, words] of rows) expect(await client.cidText(bytes)).to.equal(words);
    expect((await client.cidText(CID)).length).to.equal(59);
  });

  const lines: [string, number, bigint[] | undefined][] = [
    ["42\n", 1, [42n]],
    ["0 18446744073709551615\n", 2, [0n, 2n ** 64n - 1n]],
    ["", 0, []],
    ["18446744073709551616\n", 1, undefined],
    [`${"9".repeat(80)}\n`, 1, undefined],
    ["42", 1, undefined],
    ["42\n\n", 1, undefined],
    ["42\r\n", 1, undefined],
    ["042\n", 1, undefined],
    ["-1\n", 1, undefined],
    ["1  2\n", 2, undefined],
    ["1 2\n", 1, undefined],
    ["1\n", 2, undefined],
    ["", 1, undefined],
    ["x\n", 0, undefined],
  ];
  for (const [line, count, numbers] of lines) {
    it(`reads ${JSON.stringify(line).slice(0, 30)} as ${numbers ? `[${numbers}]` : `no line of ${count}`}`, async () => {
      const { client } = await loadFixture(fixture);
      const [ok, values] = await client.decimalLine(hex(line), count);
      expect(ok).to.equal(numbers !== undefined);
      expect([...values]).to.deep.equal(numbers ?? Array(count).fill(0n));
    });
  }
});
