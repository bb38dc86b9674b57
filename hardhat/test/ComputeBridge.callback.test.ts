import { expect } from "chai";
import { dataLength, dataSlice, ZeroAddress } from "ethers";

import {
  attestations,
  creditsOf,
  deployed,
  ethers,
  loadFixture,
  NATIVE,
  networkHelpers,
  place,
  type Placed,
  settle,
  surplus,
  type System,
} from "./helpers/fixture.ts";
import { makeOrder, makeOutcome, outcomeHash, priceOf, resultDigest, State } from "./helpers/wire.ts";

const Mode = { Accept: 0, Revert: 1, BurnGas: 2, ReturnBomb: 3, RevertBomb: 4 };
const GAS = 300_000n;
const OUTCOME = makeOutcome();

async function fixture() {
  const system = await deployed();
  const dapp = await ethers.deployContract("HostileCallback");
  const callback = await dapp.getAddress();
  const placed = await place(system, makeOrder({ callback, callbackGas: GAS }));
  return { ...system, system, dapp, callback, placed };
}

/** The parts of the price that a settlement with node 1 credits, whatever the callback does. */
async function expectPaid(system: System, { order }: Placed) {
  const { bridge, operators, relayer, requester } = system;
  expect(await bridge.creditOf(operators[0], NATIVE)).to.equal(order.unitPrice);
  const everyone = [operators[0], relayer, requester].map((account) => account.address);
  expect(await creditsOf(system, everyone)).to.equal(priceOf(order));
  expect(await surplus(system)).to.equal(0n);
}

describe("ComputeBridge: callbacks", () => {
  it("bring the dApp its result, with exactly the gas of the order", async () => {
    const { bridge, system, placed, dapp, callback } = await loadFixture(fixture);
    await expect(settle(system, placed, OUTCOME, [1]))
      .to.emit(bridge, "CallbackResult").withArgs(placed.id, callback, true, "0x");
    expect(await dapp.calls()).to.equal(1n);
    expect(await dapp.lastId()).to.equal(placed.id);
    expect(await dapp.lastRequestHash()).to.equal(placed.hash);
    expect(await dapp.gasSeen()).to.be.within(GAS - 1000n, GAS);
    expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(false);
    await expectPaid(system, placed);
  });

  it("are not made where none is ordered", async () => {
    const { bridge, system } = await loadFixture(fixture);
    const quiet = await place(system, makeOrder());
    await expect(settle(system, quiet, OUTCOME, [1])).to.not.emit(bridge, "CallbackResult");
  });

  describe("that misbehave change nothing but their own flag", () => {
    const rows: [string, number, (data: string) => void][] = [
      ["reverting", Mode.Revert, (data) => expect(dataSlice(data, 0, 4)).to.equal(
        ethers.id("HostileCallbackRefuses(uint256)").slice(0, 10))],
      ["burning their gas", Mode.BurnGas, (data) => expect(data).to.equal("0x")],
      ["reverting with 200 000 bytes", Mode.RevertBomb, (data) => expect(dataLength(data)).to.equal(256)],
    ];
    for (const [what, mode, check] of rows) {
      it(`by ${what}`, async () => {
        const { bridge, system, placed, dapp, callback } = await loadFixture(fixture);
        await dapp.setMode(mode);
        const sent = await settle(system, placed, OUTCOME, [1]);
        const [event] = await bridge.queryFilter(bridge.filters.CallbackResult(placed.id));
        expect(event.args.slice(0, 3)).to.deep.equal([placed.id, callback, false]);
        check(event.args.returnData);
        expect((await sent.wait())?.gasUsed).to.be.lessThan(GAS + 250_000n);
        expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(true);
        expect((await bridge.resultOf(placed.id)).state).to.equal(State.Fulfilled);
        await expectPaid(system, placed);
      });
    }

    it("by returning 200 000 bytes", async () => {
      const { bridge, system, placed, dapp } = await loadFixture(fixture);
      await dapp.setMode(Mode.ReturnBomb);
      const sent = await settle(system, placed, OUTCOME, [1]);
      const [event] = await bridge.queryFilter(bridge.filters.CallbackResult(placed.id));
      expect(event.args.success).to.equal(true);
      expect(dataLength(event.args.returnData)).to.equal(256);
      expect((await sent.wait())?.gasUsed).to.be.lessThan(GAS + 250_000n);
      await expectPaid(system, placed);
    });

    it("by having no code", async () => {
      const { bridge, system } = await loadFixture(fixture);
      const callback = "0x000000000000000000000000000000000000c0DE";
      const placed = await place(system, makeOrder({ callback, callbackGas: GAS }));
      await expect(settle(system, placed, OUTCOME, [1]))
        .to.emit(bridge, "CallbackResult").withArgs(placed.id, callback, false, "0x");
      expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(true);
      await expectPaid(system, placed);
    });

    const reentries = ["fulfil", "expire", "cancel", "drawCancelled", "retryCallback", "withdraw"] as const;
    for (const name of reentries) {
      it(`by calling ${name} from inside`, async () => {
        const { bridge, bridgeAt, system, placed, dapp } = await loadFixture(fixture);
        const victim = await place(system, makeOrder());
        const signed = await attestations(system, victim, OUTCOME, [2]);
        const args = {
          fulfil: [victim.id, victim.order, OUTCOME, signed],
          expire: [victim.id, victim.order],
          cancel: [victim.id, victim.order],
          drawCancelled: [victim.id, victim.order],
          retryCallback: [placed.id, placed.order, OUTCOME],
          withdraw: [NATIVE, bridgeAt],
        }[name];
        const data = bridge.interface.encodeFunctionData(name as "fulfil", args as never);
        await dapp.setCall(bridgeAt, data, 0);
        await settle(system, placed, OUTCOME, [1]);
        expect(await dapp.innerSuccess()).to.equal(false);
        expect(await dapp.innerReturned()).to.equal(ethers.id("ReentrancyGuardReentrantCall()").slice(0, 10));
        expect((await bridge.resultOf(victim.id)).state).to.equal(State.Requested);
        expect(await surplus(system)).to.equal(0n);
      });
    }
  });

  it("may order the next job", async () => {
    const { bridge, bridgeAt, system, placed, dapp } = await loadFixture(fixture);
    const next = makeOrder({ ttl: 600 });
    const data = bridge.interface.encodeFunctionData("requestJob", [next]);
    await dapp.setCall(bridgeAt, data, priceOf(next), { value: priceOf(next) });
    await settle(system, placed, OUTCOME, [1]);
    expect(await dapp.innerSuccess()).to.equal(true);
    expect((await bridge.requestOf(placed.id + 1n)).requester).to.equal(await dapp.getAddress());
    expect(await surplus(system)).to.equal(0n);
  });

  describe("and the relayer's gas", () => {
    it("a transaction with too little gas reverts as a whole", async () => {
      const { bridge, system, placed } = await loadFixture(fixture);
      const signed = await attestations(system, placed, OUTCOME, [1]);
      const isLess = (available: bigint) => available < GAS;
      await expect(bridge.fulfil(placed.id, placed.order, OUTCOME, signed, { gasLimit: GAS + 120_000n }))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeInsufficientCallbackGas").withArgs(isLess, GAS);
      expect((await bridge.resultOf(placed.id)).state).to.equal(State.Requested);
    });

    it("no amount of gas settles the request and starves the callback", async () => {
      const { bridge, system, placed, dapp } = await loadFixture(fixture);
      await dapp.setNeededGas(GAS - 1000n);
      const signed = await attestations(system, placed, OUTCOME, [1]);
      const seen = { reverted: 0, settled: 0 };
      for (let gasLimit = 200_000n; gasLimit <= 900_000n; gasLimit += 12_347n) {
        const snapshot = await ethers.provider.send("evm_snapshot", []);
        const sent = await bridge.fulfil(placed.id, placed.order, OUTCOME, signed, { gasLimit }).catch(() => null);
        const { state } = await bridge.resultOf(placed.id);
        if (sent === null) seen.reverted += 1;
        else seen.settled += 1;
        expect(state).to.equal(sent === null ? State.Requested : State.Fulfilled);
        expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(false);
        await ethers.provider.send("evm_revert", [snapshot]);
      }
      expect(Math.min(seen.reverted, seen.settled)).to.be.greaterThan(10);
    });

    it("no amount of gas gives the callback less than the order's, where a 64th is more than the reserve", async () => {
      const { bridge, system, dapp, callback } = await loadFixture(fixture);
      const large = 10_000_000n;
      const placed = await place(system, makeOrder({ callback, callbackGas: large }));
      const signed = await attestations(system, placed, OUTCOME, [1]);
      const seen = { reverted: 0, settled: 0 };
      for (let gasLimit = large; gasLimit <= large + 600_000n; gasLimit += 20_011n) {
        const snapshot = await ethers.provider.send("evm_snapshot", []);
        const sent = await bridge.fulfil(placed.id, placed.order, OUTCOME, signed, { gasLimit }).catch(() => null);
        if (sent === null) seen.reverted += 1;
        else seen.settled += 1;
        if (sent !== null) expect(await dapp.gasSeen()).to.be.within(large - 1000n, large);
        await ethers.provider.send("evm_revert", [snapshot]);
      }
      expect(Math.min(seen.reverted, seen.settled)).to.be.greaterThan(5);
    });

    it("an estimate is enough for a callback that uses all of its gas", async () => {
      const { bridge, system, placed, dapp } = await loadFixture(fixture);
      await dapp.setMode(Mode.BurnGas);
      const signed = await attestations(system, placed, OUTCOME, [1]);
      const gasLimit = await bridge.fulfil.estimateGas(placed.id, placed.order, OUTCOME, signed);
      await bridge.fulfil(placed.id, placed.order, OUTCOME, signed, { gasLimit });
      expect((await bridge.resultOf(placed.id)).state).to.equal(State.Fulfilled);
    });
  });

  describe("retryCallback", () => {
    async function failed() {
      const made = await fixture();
      await made.dapp.setMode(Mode.Revert);
      await settle(made.system, made.placed, OUTCOME, [1]);
      return made;
    }

    it("clears the flag when it succeeds, and then is over", async () => {
      const { bridge, system, placed, dapp, callback, stranger } = await loadFixture(failed);
      await dapp.setMode(Mode.Accept);
      await expect(bridge.connect(stranger).retryCallback(placed.id, placed.order, OUTCOME))
        .to.emit(bridge, "CallbackResult").withArgs(placed.id, callback, true, "0x");
      expect(await dapp.calls()).to.equal(1n);
      expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(false);
      await expect(bridge.retryCallback(placed.id, placed.order, OUTCOME))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeCallbackNotRetryable").withArgs(placed.id);
      await expectPaid(system, placed);
    });

    it("keeps the flag when it fails again", async () => {
      const { bridge, placed } = await loadFixture(failed);
      await expect(bridge.retryCallback(placed.id, placed.order, OUTCOME)).to.emit(bridge, "CallbackResult");
      expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(true);
    });

    it("reaches a callback that has got its code since", async () => {
      const { bridge, system, callback } = await loadFixture(fixture);
      const later = "0x000000000000000000000000000000000000c0DE";
      const placed = await place(system, makeOrder({ callback: later, callbackGas: GAS }));
      await settle(system, placed, OUTCOME, [1]);
      await networkHelpers.setCode(later, await ethers.provider.getCode(callback));
      await expect(bridge.retryCallback(placed.id, placed.order, OUTCOME))
        .to.emit(bridge, "CallbackResult").withArgs(placed.id, later, true, "0x");
    });

    it("gives the callback all the gas that the caller brings", async () => {
      const { bridge, placed, dapp } = await loadFixture(failed);
      await dapp.setNeededGas(2n * GAS);
      await expect(bridge.retryCallback(placed.id, placed.order, OUTCOME, { gasLimit: 4n * GAS }))
        .to.emit(bridge, "CallbackResult");
      expect(await dapp.calls()).to.equal(1n);
    });

    it("refuses less gas than the order's", async () => {
      const { bridge, placed } = await loadFixture(failed);
      const isLess = (available: bigint) => available < GAS;
      await expect(bridge.retryCallback(placed.id, placed.order, OUTCOME, { gasLimit: GAS + 50_000n }))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeInsufficientCallbackGas").withArgs(isLess, GAS);
    });

    it("takes only the settled order and outcome", async () => {
      const { bridge, placed } = await loadFixture(failed);
      const settled = resultDigest(placed.hash, outcomeHash(OUTCOME));
      const other = makeOutcome({ exitCode: 5 });
      await expect(bridge.retryCallback(placed.id, placed.order, other))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeOutcomeConflict")
        .withArgs(placed.id, settled, resultDigest(placed.hash, outcomeHash(other)));
      const elsewhere = { ...placed.order, callback: ZeroAddress };
      await expect(bridge.retryCallback(placed.id, elsewhere, OUTCOME))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeOutcomeConflict");
    });

    it("cannot be entered twice at once", async () => {
      const { bridge, bridgeAt, placed, dapp } = await loadFixture(failed);
      const args = [placed.id, placed.order, OUTCOME] as const;
      await dapp.setCall(bridgeAt, bridge.interface.encodeFunctionData("retryCallback", [...args]), 0);
      await bridge.retryCallback(...args);
      expect(await dapp.calls()).to.equal(1n);
      expect(await dapp.innerReturned()).to.equal(ethers.id("ReentrancyGuardReentrantCall()").slice(0, 10));
    });
  });
});
