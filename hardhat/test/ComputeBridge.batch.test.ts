import { expect } from "chai";
import { dataLength } from "ethers";

import {
  anchorFor,
  attestations,
  CHAIN_ID,
  creditsOf,
  type Delivery,
  delivery,
  deployed,
  ethers,
  keys,
  loadFixture,
  NATIVE,
  place,
  settle,
  surplus,
  type System,
  time,
} from "./helpers/fixture.ts";
import {
  CID,
  hex,
  makeOrder,
  makeOutcome,
  type Order,
  outcomeHash,
  priceOf,
  repeated,
  requestHash,
  resultDigest,
  State,
  Status,
} from "./helpers/wire.ts";

const Mode = { Accept: 0, Revert: 1, BurnGas: 2, ReturnBomb: 3, RevertBomb: 4 };
const GAS = 300_000n;
const MAX = 64;
const OUTCOME = makeOutcome();
const OTHER = makeOutcome({ status: Status.Failed, reason: 200, exitCode: 1 });

async function fixture() {
  const system = await deployed();
  const dapp = await ethers.deployContract("HostileCallback");
  return { ...system, system, dapp, callback: await dapp.getAddress() };
}

/** A request and its delivery, signed by node 1. */
async function ready(system: System, change: Partial<Order> = {}, outcome = OUTCOME): Promise<Delivery> {
  return delivery(system, await place(system, makeOrder(change)), outcome, [1]);
}

const states = async ({ bridge }: System, entries: Delivery[]) =>
  Promise.all(entries.map(async ({ id }) => (await bridge.resultOf(id)).state));

const encoded = ({ bridge }: System, error: string, args: unknown[]) =>
  bridge.interface.encodeErrorResult(error as "ComputeBridgeUnknownRequest", args as never);

describe("ComputeBridge: fulfilMany", () => {
  it("settles each entry as fulfil would, with the same events and credits, neighbours' fees as one", async () => {
    const { bridge, system, operators, relayer, requester } = await loadFixture(fixture);
    const entries = [await ready(system), await ready(system, { spec: hex("{}") }, OTHER)];
    expect(await bridge.fulfilMany.staticCall(entries)).to.deep.equal([true, true]);
    const hashes = [await bridge.requestHash(1n), await bridge.requestHash(2n)];
    const sent = bridge.fulfilMany(entries);
    for (const [index, { id, order, outcome }] of entries.entries()) {
      const hash = hashes[index];
      await expect(sent).to.emit(bridge, "JobSettled")
        .withArgs(id, hash, [State.Fulfilled, State.Failed][index], outcomeHash(outcome), relayer.address, Object.values(outcome));
      await expect(sent).to.emit(bridge, "Attested").withArgs(
        id, 1, keys[0].address, ...Object.values(anchorFor(system, 1)).slice(0, 3), [order.unitPrice, order.failPrice][index],
      );
      expect((await bridge.resultOf(id)).digest).to.equal(resultDigest(hash, outcomeHash(outcome)));
    }
    await expect(sent).to.emit(bridge, "Credited").withArgs(relayer.address, NATIVE, 60_000n);
    await expect(sent).to.not.emit(bridge, "DeliverySkipped");
    const everyone = [operators[0], relayer, requester].map((account) => account.address);
    expect(await creditsOf(system, everyone)).to.equal(entries.reduce((sum, { order }) => sum + priceOf(order), 0n));
    expect(await surplus(system)).to.equal(0n);
  });

  it("of nothing does nothing", async () => {
    const { bridge } = await loadFixture(fixture);
    expect(await bridge.fulfilMany.staticCall([])).to.deep.equal([]);
    await expect(bridge.fulfilMany([])).to.not.emit(bridge, "DeliverySkipped");
  });

  it("takes 64 entries and refuses 65", async () => {
    const { bridge, system } = await loadFixture(fixture);
    const entries = Array<Delivery>(MAX).fill(await ready(system));
    expect(await bridge.MAX_DELIVERIES()).to.equal(MAX);
    expect(await bridge.fulfilMany.staticCall(entries)).to.deep.equal(Array(MAX).fill(true));
    await expect(bridge.fulfilMany([...entries, entries[0]]))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeTooManyDeliveries").withArgs(MAX + 1, MAX);
  });

  it("settles an entry that comes twice once, and counts it as delivered twice", async () => {
    const { bridge, system, relayer } = await loadFixture(fixture);
    const entry = await ready(system);
    expect(await bridge.fulfilMany.staticCall([entry, entry])).to.deep.equal([true, true]);
    await bridge.fulfilMany([entry, entry]);
    expect(await bridge.queryFilter(bridge.filters.JobSettled(entry.id))).to.have.length(1);
    expect(await bridge.creditOf(relayer, NATIVE)).to.equal(entry.order.deliveryFee);
  });

  it("lets the first of two outcomes of one request win", async () => {
    const { bridge, system } = await loadFixture(fixture);
    const first = await ready(system);
    const hash = await bridge.requestHash(first.id);
    const second = await delivery(system, { id: first.id, order: first.order, hash, requester: "" }, OTHER, [1]);
    const args = [first.id, resultDigest(hash, outcomeHash(OUTCOME)), resultDigest(hash, outcomeHash(OTHER))];
    await expect(bridge.fulfilMany([first, second]))
      .to.emit(bridge, "DeliverySkipped").withArgs(first.id, encoded(system, "ComputeBridgeOutcomeConflict", args));
    expect((await bridge.resultOf(first.id)).state).to.equal(State.Fulfilled);
  });

  it("counts what a stranger delivered before as delivered, with no effect", async () => {
    const { bridge, system } = await loadFixture(fixture);
    const [mine, other] = [await ready(system), await ready(system)];
    await bridge.fulfil(mine.id, mine.order, mine.outcome, mine.attestations);
    expect(await bridge.fulfilMany.staticCall([mine, other])).to.deep.equal([true, true]);
    await bridge.fulfilMany([mine, other]);
    expect(await bridge.queryFilter(bridge.filters.JobSettled(mine.id))).to.have.length(1);
    expect(await states(system, [mine, other])).to.deep.equal([BigInt(State.Fulfilled), BigInt(State.Fulfilled)]);
  });

  describe("reports an entry that fulfil would refuse, and goes on", () => {
    type Bad = (system: System) => Promise<{ entry: Delivery; error: string; args: unknown[] }>;
    const rows: Record<string, Bad> = {
      "an unknown request": async (system) => {
        const entry = { ...(await ready(system)), id: 99n };
        return { entry, error: "ComputeBridgeUnknownRequest", args: [99n] };
      },
      "another order": async (system) => {
        const good = await ready(system);
        const entry = { ...good, order: { ...good.order, ttl: 3601 } };
        const placed = { id: entry.id, requester: system.requester.address };
        const [expected, actual] = [good.order, entry.order].map((order) =>
          requestHash(CHAIN_ID, system.bridgeAt, placed.id, placed.requester, order));
        return { entry, error: "ComputeBridgeOrderMismatch", args: [entry.id, expected, actual] };
      },
      "a request that was refunded": async (system) => {
        const entry = await ready(system, { ttl: 60 });
        await time.increase(61);
        await system.bridge.expire(entry.id, entry.order);
        return { entry, error: "ComputeBridgeUnexpectedState", args: [entry.id, State.Expired] };
      },
      "a deadline that has passed": async (system) => {
        const entry = await ready(system, { ttl: 60 });
        const { deadline } = await system.bridge.requestOf(entry.id);
        await time.increase(61);
        return { entry, error: "ComputeBridgeDeadlinePassed", args: [entry.id, deadline] };
      },
      "an outcome with a CID that is too long": async (system) => {
        const entry = await ready(system, {}, makeOutcome({ outputCid: repeated("ab", 65) }));
        return { entry, error: "ComputeBridgeInvalidOutcome", args: ["outputCid"] };
      },
      "an outcome with no status": async (system) => {
        const entry = await ready(system, {}, makeOutcome({ status: 0 }));
        return { entry, error: "ComputeBridgeInvalidOutcome", args: ["status"] };
      },
      "a refusal with an exit code": async (system) => {
        const outcome = makeOutcome({ status: Status.Refused, exitCode: 1, outputCid: "0x" });
        return { entry: await ready(system, {}, outcome), error: "ComputeBridgeInvalidOutcome", args: ["exitCode"] };
      },
      "a CID result with a payload": async (system) => {
        const entry = await ready(system, {}, makeOutcome({ payload: "0x00" }));
        return { entry, error: "ComputeBridgeInvalidOutcome", args: ["payload"] };
      },
      "no attestation": async (system) => {
        const entry = { ...(await ready(system)), attestations: [] };
        return { entry, error: "ComputeBridgeTooFewAttestations", args: [0, 1] };
      },
      "too many attestations": async (system) => {
        const entry = await delivery(system, await place(system, makeOrder()), OUTCOME, [1, 2]);
        return { entry, error: "ComputeBridgeTooManyAttestations", args: [2, 1] };
      },
      "a signature of nobody": async (system) => {
        const good = await ready(system);
        const entry = { ...good, attestations: [{ ...good.attestations[0], signature: "0x" }] };
        return { entry, error: "ComputeBridgeUnknownSigner", args: [0, ethers.ZeroAddress] };
      },
      "two nodes of one operator": async (system) => {
        const placed = await place(system, makeOrder({ nodes: 3, quorum: 2 }));
        const entry = await delivery(system, placed, OUTCOME, [1, 4]);
        return { entry, error: "ComputeBridgeDuplicateOperator", args: [1, system.operators[0].address] };
      },
      "a node that nobody vouches for": async (system) => {
        const placed = await place(system, makeOrder({ curator: system.curator.address }));
        return { entry: await delivery(system, placed, OUTCOME, [5]), error: "ComputeBridgeMissingLabels", args: [0, 5] };
      },
    };
    for (const [what, bad] of Object.entries(rows)) {
      it(what, async () => {
        const { bridge, system } = await loadFixture(fixture);
        const { entry, error, args } = await bad(system);
        const [before, after] = [await ready(system), await ready(system)];
        expect(await bridge.fulfilMany.staticCall([before, entry, after])).to.deep.equal([true, false, true]);
        const reason = encoded(system, error, args);
        expect(dataLength(reason)).to.be.at.most(100);
        await expect(bridge.fulfilMany([before, entry, after]))
          .to.emit(bridge, "DeliverySkipped").withArgs(entry.id, reason);
        expect(await states(system, [before, after])).to.deep.equal([BigInt(State.Fulfilled), BigInt(State.Fulfilled)]);
        await expect(bridge.fulfil(entry.id, entry.order, entry.outcome, entry.attestations))
          .to.be.revertedWithCustomError(bridge, error).withArgs(...args);
        expect(await surplus(system)).to.equal(0n);
      });
    }
  });

  describe("and callbacks", () => {
    for (const [what, mode] of Object.entries(Mode)) {
      it(`one that does ${what} keeps nobody else from its result`, async () => {
        const { bridge, system, dapp, callback } = await loadFixture(fixture);
        await dapp.setMode(mode);
        const entries = [await ready(system), await ready(system, { callback, callbackGas: GAS }), await ready(system)];
        await bridge.fulfilMany(entries);
        expect(await states(system, entries)).to.deep.equal(Array(3).fill(BigInt(State.Fulfilled)));
        const succeeds = mode === Mode.Accept || mode === Mode.ReturnBomb;
        expect((await bridge.requestOf(entries[1].id)).callbackFailed).to.equal(!succeeds);
        expect(await surplus(system)).to.equal(0n);
      });
    }

    it("each has exactly the gas of its own order", async () => {
      const { bridge, system, dapp, callback } = await loadFixture(fixture);
      const second = await ethers.deployContract("HostileCallback");
      const entries = [
        await ready(system, { callback, callbackGas: GAS }),
        await ready(system, { callback: await second.getAddress(), callbackGas: 2n * GAS }),
      ];
      await bridge.fulfilMany(entries);
      expect(await dapp.gasSeen()).to.be.within(GAS - 1000n, GAS);
      expect(await second.gasSeen()).to.be.within(2n * GAS - 1000n, 2n * GAS);
    });

    it("no amount of gas settles some entries and starves or skips another's callback", async () => {
      const { bridge, system, dapp, callback } = await loadFixture(fixture);
      await dapp.setNeededGas(GAS - 1000n);
      const entries = [await ready(system), await ready(system, { callback, callbackGas: GAS }), await ready(system)];
      const seen = { reverted: 0, settled: 0 };
      for (let gasLimit = 250_000n; gasLimit <= 1_200_000n; gasLimit += 17_341n) {
        const snapshot = await ethers.provider.send("evm_snapshot", []);
        const sent = await bridge.fulfilMany(entries, { gasLimit }).catch(() => null);
        const expected = sent === null ? State.Requested : State.Fulfilled;
        if (sent === null) seen.reverted += 1;
        else seen.settled += 1;
        expect(await states(system, entries)).to.deep.equal(Array(3).fill(BigInt(expected)));
        expect((await bridge.requestOf(entries[1].id)).callbackFailed).to.equal(false);
        await ethers.provider.send("evm_revert", [snapshot]);
      }
      expect(Math.min(seen.reverted, seen.settled)).to.be.greaterThan(10);
    });

    it("too little gas for a callback is the whole call's error, with its numbers", async () => {
      const { bridge, system, callback } = await loadFixture(fixture);
      const entries = [await ready(system), await ready(system, { callback, callbackGas: GAS })];
      const isLess = (available: bigint) => available < GAS;
      await expect(bridge.fulfilMany(entries, { gasLimit: GAS + 200_000n }))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeInsufficientCallbackGas").withArgs(isLess, GAS);
    });

    for (const name of ["fulfil", "fulfilMany"] as const) {
      it(`none enters ${name} from inside a batch`, async () => {
        const { bridge, bridgeAt, system, dapp, callback } = await loadFixture(fixture);
        const victim = await ready(system);
        const args = name === "fulfil" ? Object.values(victim) : [[victim]];
        await dapp.setCall(bridgeAt, bridge.interface.encodeFunctionData(name as "fulfil", args as never), 0);
        const last = await ready(system);
        await bridge.fulfilMany([await ready(system, { callback, callbackGas: GAS }), last]);
        expect(await dapp.innerSuccess()).to.equal(false);
        expect(await dapp.innerReturned()).to.equal(ethers.id("ReentrancyGuardReentrantCall()").slice(0, 10));
        expect(await states(system, [victim, last])).to.deep.equal([BigInt(State.Requested), BigInt(State.Fulfilled)]);
      });
    }

    it("none enters fulfilMany from inside fulfil", async () => {
      const { bridge, bridgeAt, system, dapp, callback } = await loadFixture(fixture);
      const victim = await ready(system);
      await dapp.setCall(bridgeAt, bridge.interface.encodeFunctionData("fulfilMany", [[victim]]), 0);
      await settle(system, await place(system, makeOrder({ callback, callbackGas: GAS })), OUTCOME, [1]);
      expect(await dapp.innerReturned()).to.equal(ethers.id("ReentrancyGuardReentrantCall()").slice(0, 10));
      expect((await bridge.resultOf(victim.id)).state).to.equal(State.Requested);
    });
  });

  it("an order that is not encoded as Solidity encodes it is another order", async () => {
    const { bridge, bridgeAt, system } = await loadFixture(fixture);
    const placed = await place(system, makeOrder());
    const signed = await attestations(system, placed, OUTCOME, [1]);
    const data = bridge.interface.encodeFunctionData("fulfil", [placed.id, placed.order, OUTCOME, signed]);
    const padding = `${hex('{"version":"insula/v1"}').slice(2)}00`;
    expect(data).to.include(padding);
    const dirty = data.replace(padding, `${padding.slice(0, -2)}01`);
    await expect(system.relayer.sendTransaction({ to: bridgeAt, data: dirty }))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeOrderMismatch");
  });

  const dirty: [string, (system: System) => [string, string]][] = [
    ["an outcome whose padding is not zero", () => [`${CID.slice(2)}00`, `${CID.slice(2)}01`]],
    ["a relayer with upper bytes", ({ relayer }) => {
      const word = ethers.zeroPadValue(relayer.address, 32).slice(2).toLowerCase();
      return [word, `01${word.slice(2)}`];
    }],
  ];
  for (const [what, change] of dirty) {
    it(`${what} is what nobody signed, and holds up no batch`, async () => {
      const { bridge, bridgeAt, system } = await loadFixture(fixture);
      const [bad, good] = [await ready(system), await ready(system)];
      const data = bridge.interface.encodeFunctionData("fulfilMany", [[bad, good]]);
      const [from, to] = change(system);
      expect(data).to.include(from);
      await expect(system.relayer.sendTransaction({ to: bridgeAt, data: data.replace(from, to) }))
        .to.emit(bridge, "DeliverySkipped").withArgs(bad.id, (reason: string) =>
          bridge.interface.parseError(reason)?.name === "ComputeBridgeUnknownSigner");
      expect(await states(system, [bad, good])).to.deep.equal([BigInt(State.Requested), BigInt(State.Fulfilled)]);
    });
  }

  it("books each relayer's fees, whatever the order in which relayers and requests without one come", async () => {
    const { bridge, system, relayer, stranger, requester } = await loadFixture(fixture);
    const entries = [];
    for (const [fee, to] of [[1n, relayer], [2n, stranger], [4n, relayer], [8n, null], [16n, relayer]] as const) {
      const placed = await place(system, makeOrder({ deliveryFee: fee }));
      entries.push(await delivery(system, placed, OUTCOME, [1], to?.address ?? ethers.ZeroAddress));
    }
    await bridge.fulfilMany(entries);
    const credits = await Promise.all([relayer, stranger, requester].map((account) => bridge.creditOf(account, NATIVE)));
    expect(credits).to.deep.equal([21n, 2n, 8n]);
    expect(await bridge.creditOf(ethers.ZeroAddress, NATIVE)).to.equal(0n);
    expect(await surplus(system)).to.equal(0n);
  });

  it("has booked every fee before it calls anybody", async () => {
    const { bridge, bridgeAt, system, relayer, dapp, callback } = await loadFixture(fixture);
    const data = bridge.interface.encodeFunctionData("creditOf", [relayer.address, NATIVE]);
    await dapp.setCall(bridgeAt, data, 0);
    const change = { deliveryFee: 5n };
    const entries = [
      await ready(system, change),
      await ready(system, { ...change, callback, callbackGas: GAS }),
      await ready(system, change),
    ];
    await bridge.fulfilMany(entries);
    expect(BigInt(await dapp.innerReturned())).to.equal(10n);
    expect(await bridge.creditOf(relayer, NATIVE)).to.equal(15n);
  });
});
