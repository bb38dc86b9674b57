import { expect } from "chai";
import { ZeroAddress } from "ethers";

import {
  CANCEL_DELAY,
  CHAIN_ID,
  creditsOf,
  deployed,
  ethers,
  loadFixture,
  MAX_TTL,
  MIN_TTL,
  NATIVE,
  place,
  settle,
  surplus,
  time,
} from "./helpers/fixture.ts";
import {
  makeOrder,
  makeOutcome,
  type Order,
  priceOf,
  repeated,
  requestHash,
  sortedLabels,
  State,
} from "./helpers/wire.ts";

const LABELS = sortedLabels("a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7", "h=8", "i=9");
const MAX_UINT128 = 2n ** 128n - 1n;
const CALLBACK = "0x000000000000000000000000000000000000c0de";

describe("ComputeBridge: requesting", () => {
  describe("constructor", () => {
    it("keeps what it was given", async () => {
      const { bridge, registry, owner } = await loadFixture(deployed);
      expect(await bridge.registry()).to.equal(await registry.getAddress());
      expect(await bridge.bounds()).to.deep.equal([MIN_TTL, MAX_TTL, CANCEL_DELAY]);
      expect(await bridge.owner()).to.equal(owner.address);
      const { name, version, chainId } = await bridge.eip712Domain();
      expect([name, version, chainId]).to.deep.equal(["Insula", "1", CHAIN_ID]);
      expect(await bridge.requestCount()).to.equal(0n);
    });

    it("takes one ttl for all requests", async () => {
      const { registry, owner } = await loadFixture(deployed);
      const bridge = await ethers.deployContract("ComputeBridge", [registry, MIN_TTL, MIN_TTL, CANCEL_DELAY, owner]);
      expect(await bridge.bounds()).to.deep.equal([MIN_TTL, MIN_TTL, CANCEL_DELAY]);
    });

    const refused: [string, string, number, number][] = [
      ["a registry without code", "registry", 60, 600],
      ["a smallest ttl of zero", "minTtl", 0, 600],
      ["bounds the wrong way round", "maxTtl", 601, 600],
    ];
    for (const [what, name, minTtl, maxTtl] of refused) {
      it(`refuses ${what}`, async () => {
        const { bridge, registry, owner } = await loadFixture(deployed);
        const at = name === "registry" ? owner.address : await registry.getAddress();
        const factory = await ethers.getContractFactory("ComputeBridge");
        await expect(factory.deploy(at, minTtl, maxTtl, 600, owner))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidParameter").withArgs(name);
      });
    }
  });

  describe("requestJob", () => {
    it("escrows the price, stores the hash, and emits the whole order", async () => {
      const system = await loadFixture(deployed);
      const { bridge, bridgeAt, requester } = system;
      const order = makeOrder({ nodes: 3, quorum: 2, curator: system.curator.address, labels: LABELS.slice(0, 8) });
      const hash = requestHash(CHAIN_ID, bridgeAt, 1n, requester.address, order);
      const at = BigInt(await time.latest()) + 100n;
      await time.setNextBlockTimestamp(at);
      const deadline = at + BigInt(order.ttl);
      const sent = bridge.connect(requester).requestJob(order, { value: priceOf(order) });
      await expect(sent)
        .to.emit(bridge, "JobRequested").withArgs(1n, hash, requester.address, deadline, Object.values(order));
      expect(await bridge.requestHash(1)).to.equal(hash);
      expect(await bridge.requestOf(1)).to.deep.equal([requester.address, deadline, State.Requested, 0n, false]);
      expect(await bridge.resultOf(1)).to.deep.equal([BigInt(State.Requested), ethers.ZeroHash]);
      expect(await bridge.owed(NATIVE)).to.equal(priceOf(order));
      expect(await surplus(system)).to.equal(0n);
    });

    it("numbers requests from 1", async () => {
      const system = await loadFixture(deployed);
      expect((await place(system, makeOrder())).id).to.equal(1n);
      expect((await place(system, makeOrder())).id).to.equal(2n);
      expect(await system.bridge.requestHash(1)).to.not.equal(await system.bridge.requestHash(2));
    });

    for (const difference of [-1n, 1n]) {
      it(`refuses a payment that is off by ${difference}`, async () => {
        const { bridge } = await loadFixture(deployed);
        const price = priceOf(makeOrder());
        await expect(bridge.requestJob(makeOrder(), { value: price + difference }))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeWrongPayment").withArgs(price + difference, price);
      });
    }

    const refused: [string, string, Partial<Order>][] = [
      ["version 0", "version", { version: 0 }],
      ["version 2", "version", { version: 2 }],
      ["dialect 0", "dialect", { dialect: 0 }],
      ["dialect 5", "dialect", { dialect: 5 }],
      ["an empty spec", "spec", { spec: "0x" }],
      ["a spec of 16385 bytes", "spec", { spec: repeated("20", 16_385) }],
      ["result kind 4", "resultKind", { resultKind: 4 }],
      ["no nodes", "nodes", { nodes: 0, quorum: 0 }],
      ["17 nodes", "nodes", { nodes: 17, quorum: 9 }],
      ["a quorum of 0", "quorum", { nodes: 1, quorum: 0 }],
      ["a quorum beyond the nodes", "quorum", { nodes: 1, quorum: 2 }],
      ["a quorum of half the nodes", "quorum", { nodes: 4, quorum: 2 }],
      ["a ttl below the smallest", "ttl", { ttl: MIN_TTL - 1 }],
      ["a ttl above the largest", "ttl", { ttl: MAX_TTL + 1 }],
      ["a callback without gas", "callbackGas", { callback: CALLBACK }],
      ["gas without a callback", "callbackGas", { callbackGas: 1n }],
      ["gas that no transaction can bring", "callbackGas", { callback: CALLBACK, callbackGas: 30_000_001n }],
      ["a callback by a masked id address", "callback", {
        callback: "0xff00000000000000000000000000000000000065", callbackGas: 1n,
      }],
      ["nine labels", "labels", { labels: LABELS }],
      ["labels out of order", "labels", { labels: [LABELS[1], LABELS[0]] }],
      ["the same label twice", "labels", { labels: [LABELS[0], LABELS[0]] }],
      ["a fail price above the unit price", "failPrice", { unitPrice: 1n, failPrice: 2n }],
    ];
    for (const [what, field, change] of refused) {
      it(`refuses ${what}, and so does the quote`, async () => {
        const { bridge } = await loadFixture(deployed);
        const order = makeOrder(change);
        await expect(bridge.requestJob(order, { value: priceOf(order) }))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs(field);
        await expect(bridge.quote(order))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs(field);
      });
    }

    it("refuses its own contracts as a callback", async () => {
      const { bridge, bridgeAt, registry } = await loadFixture(deployed);
      for (const callback of [bridgeAt, await registry.getAddress()]) {
        await expect(bridge.quote(makeOrder({ callback, callbackGas: 1n })))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("callback");
      }
    });

    const accepted: [string, Partial<Order>][] = [
      ["nothing paid", { unitPrice: 0n, failPrice: 0n, deliveryFee: 0n }],
      ["the last dialect", { dialect: 4 }],
      ["the largest spec", { spec: repeated("ff", 16_384) }],
      ["16 nodes, a quorum of 9", { nodes: 16, quorum: 9 }],
      ["a quorum of all", { nodes: 16, quorum: 16 }],
      ["the smallest ttl", { ttl: MIN_TTL }],
      ["the largest ttl", { ttl: MAX_TTL }],
      ["the most callback gas", { callback: CALLBACK, callbackGas: 30_000_000n }],
      ["an address that only looks like a masked id", {
        callback: "0xff00000000000000000000010000000000000065", callbackGas: 1n,
      }],
      ["a fail price as high as the unit price", { unitPrice: 5n, failPrice: 5n }],
    ];
    for (const [what, change] of accepted) {
      it(`accepts ${what}`, async () => {
        const system = await loadFixture(deployed);
        const placed = await place(system, makeOrder(change));
        expect(await system.bridge.requestHash(placed.id)).to.equal(placed.hash);
      });
    }
  });

  it("quotes the largest price without overflow", async () => {
    const { bridge } = await loadFixture(deployed);
    const order = makeOrder({ nodes: 16, quorum: 9, unitPrice: MAX_UINT128, deliveryFee: MAX_UINT128 });
    expect(await bridge.quote(order)).to.equal(17n * MAX_UINT128);
  });

  it("answers for a request that is not there with nothing", async () => {
    const { bridge } = await loadFixture(deployed);
    expect(await bridge.requestOf(7)).to.deep.equal([ZeroAddress, 0n, BigInt(State.Unknown), 0n, false]);
    expect(await bridge.resultOf(7)).to.deep.equal([BigInt(State.Unknown), ethers.ZeroHash]);
    expect(await bridge.requestHash(7)).to.equal(ethers.ZeroHash);
    expect(await bridge.checkResult(7, ethers.ZeroHash, makeOutcome())).to.equal(false);
  });

  it("takes no plain transfer and no unknown call", async () => {
    const { bridge, bridgeAt, requester } = await loadFixture(deployed);
    await expect(requester.sendTransaction({ to: bridgeAt, value: 1n })).to.be.revertedWithoutReason(ethers);
    await expect(requester.sendTransaction({ to: bridgeAt, data: "0x12345678" })).to.be.revertedWithoutReason(ethers);
    expect(await bridge.owed(NATIVE)).to.equal(0n);
  });

  describe("pausing", () => {
    it("stops new requests and nothing else", async () => {
      const system = await loadFixture(deployed);
      const { bridge, owner, requester, operators } = system;
      const settled = await place(system, makeOrder());
      const expired = await place(system, makeOrder());
      const cancelled = await place(system, makeOrder());
      await expect(bridge.connect(owner).pause()).to.emit(bridge, "Paused").withArgs(owner.address);
      await expect(bridge.requestJob(makeOrder(), { value: priceOf(makeOrder()) }))
        .to.be.revertedWithCustomError(bridge, "EnforcedPause");
      await expect(bridge.quote(makeOrder())).to.be.revertedWithCustomError(bridge, "EnforcedPause");

      await settle(system, settled, makeOutcome(), [1]);
      await bridge.connect(operators[0]).withdraw(NATIVE, operators[0]);
      await bridge.connect(requester).cancel(cancelled.id, cancelled.order);
      await time.increase(CANCEL_DELAY);
      await bridge.drawCancelled(cancelled.id, cancelled.order);
      await time.increase(3600);
      await bridge.expire(expired.id, expired.order);
      expect(await creditsOf(system, [requester.address])).to.equal(2n * priceOf(settled.order));

      await expect(bridge.connect(owner).unpause()).to.emit(bridge, "Unpaused").withArgs(owner.address);
      await place(system, makeOrder());
    });

    it("is the owner's, and ownership moves in two steps", async () => {
      const { bridge, owner, stranger } = await loadFixture(deployed);
      for (const name of ["pause", "unpause"] as const) {
        await expect(bridge.connect(stranger)[name]())
          .to.be.revertedWithCustomError(bridge, "OwnableUnauthorizedAccount").withArgs(stranger.address);
      }
      await bridge.connect(owner).transferOwnership(stranger);
      expect(await bridge.owner()).to.equal(owner.address);
      await bridge.connect(stranger).acceptOwnership();
      expect(await bridge.owner()).to.equal(stranger.address);
    });
  });
});
