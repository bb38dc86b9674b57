import { expect } from "chai";
import { Signature, Wallet, ZeroAddress } from "ethers";

import {
  anchorFor,
  attestations,
  CHAIN_ID,
  creditsOf,
  deployed,
  ethers,
  GPU,
  keys,
  keySignature,
  loadFixture,
  NATIVE,
  networkHelpers,
  NOTICE,
  place,
  settle,
  surplus,
  type System,
  time,
} from "./helpers/fixture.ts";
import {
  attest,
  ATTESTATION_TYPES,
  hex,
  makeOrder,
  makeOutcome,
  type Order,
  type Outcome,
  outcomeHash,
  priceOf,
  repeated,
  requestHash,
  resultDigest,
  ResultKind,
  State,
  Status,
} from "./helpers/wire.ts";

const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const ofStatus: Record<string, Partial<Outcome>> = {
  Fulfilled: { status: Status.Succeeded },
  Failed: { status: Status.Failed, reason: 200, exitCode: 1 },
  Refused: { status: Status.Refused, reason: 101, outputCid: "0x" },
  Withheld: { status: Status.Withheld, reason: 300, outputCid: "0x" },
};

async function trio(change: Partial<Order> = {}) {
  const system = await loadFixture(deployed);
  const order = makeOrder({ nodes: 3, quorum: 2, curator: system.curator.address, ...change });
  return { ...system, system, placed: await place(system, order) };
}

describe("ComputeBridge: fulfil", () => {
  describe("an outcome that a quorum signed", () => {
    for (const [state, change] of Object.entries(ofStatus)) {
      it(`settles the request as ${state}`, async () => {
        const { bridge, system, placed, relayer, operators } = await trio();
        const outcome = makeOutcome(change);
        const code = BigInt(State[state as keyof typeof State]);
        const share = { Fulfilled: placed.order.unitPrice, Failed: placed.order.failPrice }[state] ?? 0n;
        const settled = settle(system, placed, outcome, [2, 1]);
        await expect(settled)
          .to.emit(bridge, "JobSettled")
          .withArgs(placed.id, placed.hash, code, outcomeHash(outcome), relayer.address, Object.values(outcome));
        for (const nodeId of [1, 2]) {
          const { receiptHash, logRoot, logSize } = anchorFor(system, nodeId);
          await expect(settled)
            .to.emit(bridge, "Attested")
            .withArgs(placed.id, nodeId, keys[nodeId - 1].address, receiptHash, logRoot, logSize, share);
          expect(await bridge.creditOf(operators[nodeId - 1], NATIVE)).to.equal(share);
        }
        await expect(settled).to.emit(bridge, "Credited").withArgs(relayer.address, NATIVE, placed.order.deliveryFee);
        const digest = resultDigest(placed.hash, outcomeHash(outcome));
        expect(await bridge.resultOf(placed.id)).to.deep.equal([code, digest]);
        expect(await bridge.requestHash(placed.id)).to.equal(ethers.ZeroHash);
        expect(await bridge.checkResult(placed.id, placed.hash, outcome)).to.equal(true);
        expect(await bridge.checkResult(placed.id, placed.hash, { ...outcome, reason: 1 })).to.equal(false);
        expect(await bridge.checkResult(placed.id, repeated("01", 32), outcome)).to.equal(false);
      });

      for (const signers of [[1, 2], [3, 1, 2]]) {
        it(`pays out exactly the price as ${state} with ${signers.length} attestations`, async () => {
          const { bridge, system, placed, relayer, requester, operators } = await trio();
          await settle(system, placed, makeOutcome(change), signers);
          const { unitPrice, failPrice, deliveryFee } = placed.order;
          const share = { Fulfilled: unitPrice, Failed: failPrice }[state] ?? 0n;
          for (const nodeId of signers) {
            expect(await bridge.creditOf(operators[nodeId - 1], NATIVE)).to.equal(share);
          }
          expect(await bridge.creditOf(relayer, NATIVE)).to.equal(deliveryFee);
          expect(await bridge.creditOf(requester, NATIVE)).to.equal(3n * unitPrice - BigInt(signers.length) * share);
          const everyone = [relayer, requester, ...operators].map((account) => account.address);
          expect(await creditsOf(system, everyone)).to.equal(priceOf(placed.order));
          expect(await bridge.owed(NATIVE)).to.equal(priceOf(placed.order));
          expect(await surplus(system)).to.equal(0n);
        });
      }
    }

    it("returns the delivery fee when the first attestation names no relayer", async () => {
      const { bridge, system, placed, requester } = await trio();
      await settle(system, placed, makeOutcome(), [1, 2], ZeroAddress);
      const { unitPrice, deliveryFee } = placed.order;
      expect(await bridge.creditOf(requester, NATIVE)).to.equal(unitPrice + deliveryFee);
      expect(await bridge.creditOf(ZeroAddress, NATIVE)).to.equal(0n);
    });

    it("earns nothing for who copies the transaction", async () => {
      const { bridge, system, placed, stranger, relayer } = await trio();
      const outcome = makeOutcome();
      const signed = await attestations(system, placed, outcome, [1, 2]);
      await bridge.connect(stranger).fulfil(placed.id, placed.order, outcome, signed);
      expect(await bridge.creditOf(stranger, NATIVE)).to.equal(0n);
      expect(await bridge.creditOf(relayer, NATIVE)).to.equal(placed.order.deliveryFee);
    });

    it("earns nothing for who puts the attestations in another order, or leaves one out, unless a counted node named him", async () => {
      for (const [names, first] of [["relayer", "relayer"], ["stranger", "stranger"]] as const) {
        const { bridge, system, placed, stranger, relayer } = await trio();
        const outcome = makeOutcome();
        const [two] = await attestations(system, placed, outcome, [2], { relayer, stranger }[names].address);
        const [three] = await attestations(system, placed, outcome, [3]);
        await bridge.connect(stranger).fulfil(placed.id, placed.order, outcome, [two, three]);
        const earned = { relayer: await bridge.creditOf(relayer, NATIVE), stranger: await bridge.creditOf(stranger, NATIVE) };
        expect(earned).to.deep.equal({ relayer: 0n, stranger: 0n, [first]: placed.order.deliveryFee });
      }
    });

    it("cannot be made a relayer's own by changing the name", async () => {
      const { bridge, system, placed, stranger } = await trio();
      const signed = await attestations(system, placed, makeOutcome(), [1, 2]);
      signed[0].relayer = stranger.address;
      await expect(bridge.fulfil(placed.id, placed.order, makeOutcome(), signed))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner");
    });

    it("emits no credit of nothing", async () => {
      const { bridge, system, placed } = await trio({ unitPrice: 0n, failPrice: 0n, deliveryFee: 0n });
      await expect(settle(system, placed, makeOutcome(), [1, 2])).to.not.emit(bridge, "Credited");
    });

    it("is accepted in the deadline's last second, and not one later", async () => {
      const { bridge, system, placed } = await trio();
      const { deadline } = await bridge.requestOf(placed.id);
      const signed = await attestations(system, placed, makeOutcome(), [1, 2]);
      const snapshot = await ethers.provider.send("evm_snapshot", []);
      await time.setNextBlockTimestamp(deadline);
      await bridge.fulfil(placed.id, placed.order, makeOutcome(), signed);
      await ethers.provider.send("evm_revert", [snapshot]);
      await time.setNextBlockTimestamp(deadline + 1n);
      await expect(bridge.fulfil(placed.id, placed.order, makeOutcome(), signed))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeDeadlinePassed").withArgs(placed.id, deadline);
    });

    it("wins over a cancellation whose refund is not drawn, even after the delay", async () => {
      const { bridge, system, placed, requester } = await trio();
      await bridge.connect(requester).cancel(placed.id, placed.order);
      await time.increase(1200);
      await settle(system, placed, makeOutcome(), [1, 2]);
      expect((await bridge.resultOf(placed.id)).state).to.equal(State.Fulfilled);
      await expect(bridge.drawCancelled(placed.id, placed.order))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnexpectedState").withArgs(placed.id, State.Fulfilled);
    });
  });

  describe("the same request again", () => {
    it("with the same outcome does nothing, whatever else is given", async () => {
      const { bridge, system, placed, requester } = await trio();
      await settle(system, placed, makeOutcome(), [1, 2]);
      const before = await bridge.creditOf(requester, NATIVE);
      const again = await bridge.fulfil(placed.id, placed.order, makeOutcome(), []);
      expect((await again.wait())?.logs).to.have.length(0);
      expect(await bridge.creditOf(requester, NATIVE)).to.equal(before);
    });

    it("with another outcome is a conflict", async () => {
      const { bridge, system, placed } = await trio();
      await settle(system, placed, makeOutcome(), [1, 2]);
      const other = makeOutcome({ exitCode: 3 });
      const settled = resultDigest(placed.hash, outcomeHash(makeOutcome()));
      await expect(settle(system, placed, other, [1, 2]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeOutcomeConflict")
        .withArgs(placed.id, settled, resultDigest(placed.hash, outcomeHash(other)));
    });
  });

  describe("another order than the stored one", () => {
    const changes: [string, Partial<Order>][] = [
      ["spec", { spec: hex("{}") }],
      ["nodes", { nodes: 2 }],
      ["quorum", { quorum: 3 }],
      ["curator", { curator: ZeroAddress }],
      ["labels", { labels: [GPU] }],
      ["unit price", { unitPrice: 2_000_000n }],
      ["fail price", { failPrice: 0n }],
      ["delivery fee", { deliveryFee: 1_000_000n }],
      ["callback", { callback: "0x000000000000000000000000000000000000c0de" }],
      ["callback gas", { callbackGas: 1n }],
      ["token", { token: "0x000000000000000000000000000000000000c0de" }],
    ];
    for (const [what, change] of changes) {
      it(`is refused: ${what}`, async () => {
        const { bridge, bridgeAt, system, placed } = await trio();
        const order = { ...placed.order, ...change };
        const actual = requestHash(CHAIN_ID, bridgeAt, placed.id, placed.requester, order);
        await expect(settle(system, { ...placed, order }, makeOutcome(), [1, 2]))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeOrderMismatch")
          .withArgs(placed.id, placed.hash, actual);
      });
    }

    it("a result of one id does not settle another id with the same order", async () => {
      const { bridge, system, placed } = await trio();
      const second = await place(system, placed.order);
      const signed = await attestations(system, placed, makeOutcome(), [1, 2]);
      await expect(bridge.fulfil(second.id, second.order, makeOutcome(), signed))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner");
    });

    it("an id that a reorg gave to another request does not take the old result", async () => {
      const system = await loadFixture(deployed);
      const order = makeOrder({ nodes: 3, quorum: 2, curator: system.curator.address });
      const snapshot = await ethers.provider.send("evm_snapshot", []);
      const old = await place(system, order);
      const signed = await attestations(system, old, makeOutcome(), [1, 2]);
      await ethers.provider.send("evm_revert", [snapshot]);
      const other = await place(system, makeOrder({ ...order, spec: hex('{"other":true}') }), system.stranger);
      expect(other.id).to.equal(old.id);
      const actual = requestHash(CHAIN_ID, system.bridgeAt, old.id, other.requester, order);
      await expect(system.bridge.fulfil(old.id, old.order, makeOutcome(), signed))
        .to.be.revertedWithCustomError(system.bridge, "ComputeBridgeOrderMismatch")
        .withArgs(old.id, other.hash, actual);
      await expect(system.bridge.fulfil(other.id, other.order, makeOutcome(), signed))
        .to.be.revertedWithCustomError(system.bridge, "ComputeBridgeUnknownSigner");
    });
  });

  describe("an outcome that cannot be", () => {
    const rows: [string, string, Partial<Order>, Partial<Outcome>][] = [
      ["status 0", "status", {}, { status: 0 }],
      ["status 5", "status", {}, { status: 5 }],
      ["an exit code of what never ran", "exitCode", {}, { ...ofStatus.Refused, exitCode: 1 }],
      ["a CID of 65 bytes", "outputCid", {}, { outputCid: repeated("01", 65) }],
      ["a CID of what never ran", "outputCid", {}, { ...ofStatus.Refused, outputCid: "0x01" }],
      ["a CID of what is withheld", "outputCid", {}, { ...ofStatus.Withheld, outputCid: "0x01" }],
      ["no CID where the CID was ordered", "outputCid", {}, { outputCid: "0x" }],
      ["a payload where the CID was ordered", "payload", {}, { payload: "0x00" }],
      ["a payload of what is withheld", "payload", { resultKind: ResultKind.StdOut },
        { ...ofStatus.Withheld, payload: "0x00" }],
      ["a payload of what never ran", "payload", { resultKind: ResultKind.StdErr },
        { ...ofStatus.Refused, payload: "0x00" }],
      ["a payload of 8193 bytes", "payload", { resultKind: ResultKind.StdOut }, { payload: repeated("00", 8193) }],
    ];
    for (const [what, field, orderChange, change] of rows) {
      it(`is refused: ${what}`, async () => {
        const { bridge, system, placed } = await trio(orderChange);
        await expect(settle(system, placed, makeOutcome(change), [1, 2]))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOutcome").withArgs(field);
      });
    }

    it("but the longest CID is taken", async () => {
      const { bridge, system, placed } = await trio();
      await settle(system, placed, makeOutcome({ outputCid: repeated("ff", 64) }), [1, 2]);
      expect((await bridge.resultOf(placed.id)).state).to.equal(State.Fulfilled);
    });

    for (const resultKind of [ResultKind.StdOut, ResultKind.StdErr, ResultKind.ExitCode]) {
      it(`but the largest payload of result kind ${resultKind} is taken, and so is an empty one`, async () => {
        const { bridge, system, placed } = await trio({ resultKind });
        await settle(system, placed, makeOutcome({ payload: repeated("00", 8192) }), [1, 2]);
        const second = await place(system, placed.order);
        await settle(system, second, makeOutcome({ outputCid: "0x" }), [1, 2]);
        expect((await bridge.resultOf(second.id)).state).to.equal(State.Fulfilled);
      });
    }
  });

  describe("attestations", () => {
    it("fewer than the quorum are refused", async () => {
      const { bridge, system, placed } = await trio();
      await expect(settle(system, placed, makeOutcome(), [1]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeTooFewAttestations").withArgs(1, 2);
      await expect(settle(system, placed, makeOutcome(), []))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeTooFewAttestations").withArgs(0, 2);
    });

    it("more than the nodes are refused", async () => {
      const { bridge, system, placed } = await trio({ nodes: 2, quorum: 2 });
      await expect(settle(system, placed, makeOutcome(), [1, 2, 3]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeTooManyAttestations").withArgs(3, 2);
    });

    it("of one operator count once, be it one node twice or two nodes", async () => {
      const { bridge, system, placed, operators } = await trio();
      for (const twice of [[1, 1], [1, 4], [1, 2, 4]]) {
        await expect(settle(system, placed, makeOutcome(), twice))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeDuplicateOperator")
          .withArgs(twice.length - 1, operators[0].address);
      }
    });

    it("of two operators count as two where their addresses end alike", async () => {
      const { bridge, registry, curator, system, placed, operators } = await trio();
      const last = operators[0].address.slice(-2).toLowerCase();
      const wallets = Array.from({ length: 4096 }, (_, n) => new Wallet(ethers.id(`operator ${n}`)));
      const alike = wallets.find(({ address }) => address.toLowerCase().endsWith(last))!.connect(ethers.provider);
      await networkHelpers.setBalance(alike.address, 10n ** 18n);
      await registry.connect(alike).register([], "");
      const nodeId = await registry.nodeCount();
      const key = new Wallet(ethers.id("a key of its own"));
      const signature = await keySignature(key, await registry.getAddress(), alike.address, nodeId, 0n);
      await registry.connect(alike).joinKey(nodeId, key.address, signature);
      await registry.connect(curator).vouch(nodeId, [await registry.ADMITTED()]);
      const signed = await attestations(system, placed, makeOutcome(), [1]);
      signed.push(await attest(key, system.domain, placed.hash, makeOutcome(), anchorFor(system, 6)));
      await bridge.fulfil(placed.id, placed.order, makeOutcome(), signed);
      expect((await bridge.resultOf(placed.id)).state).to.equal(State.Fulfilled);
    });

    it("of a stranger without the curator's word are refused", async () => {
      const { bridge, system, placed } = await trio();
      await expect(settle(system, placed, makeOutcome(), [1, 5]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeMissingLabels").withArgs(1, 5);
    });

    it("of a stranger whose own word is the label are refused where a curator is named", async () => {
      const { bridge, system, placed } = await trio({ labels: [GPU] });
      await expect(settle(system, placed, makeOutcome(), [5, 1]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeMissingLabels").withArgs(0, 5);
      await settle(system, placed, makeOutcome(), [1, 2]);
    });

    it("of a stranger whose own word is the label are taken where no curator is named", async () => {
      const { bridge, system, placed } = await trio({ labels: [GPU], curator: ZeroAddress });
      await settle(system, placed, makeOutcome(), [5, 1]);
      expect((await bridge.resultOf(placed.id)).state).to.equal(State.Fulfilled);
    });

    it("stop counting when the curator takes his word back", async () => {
      const { bridge, system, placed, registry, curator } = await trio({ labels: [GPU] });
      await registry.connect(curator).withdrawVouch(2, [GPU]);
      await expect(settle(system, placed, makeOutcome(), [1, 2]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeMissingLabels").withArgs(1, 2);
    });

    it("of a node that left do not count once its notice is over", async () => {
      const { bridge, system, placed, registry, operators } = await trio({ ttl: 86_400 });
      await registry.connect(operators[1]).deactivate(2);
      await time.increase(NOTICE + 1n);
      await expect(settle(system, placed, makeOutcome(), [1, 2]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner").withArgs(1, keys[1].address);
    });

    it("by a replaced key are refused", async () => {
      const { bridge, system, placed, registry, operators } = await trio();
      const next = ethers.Wallet.createRandom();
      const at = await registry.getAddress();
      const signature = await keySignature(next, at, operators[1].address, 2n, 1n);
      await registry.connect(operators[1]).joinKey(2, next.address, signature);
      await expect(settle(system, placed, makeOutcome(), [1, 2]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner").withArgs(1, keys[1].address);
    });

    it("by a key that never joined are refused", async () => {
      const { bridge, system, placed } = await trio();
      const nobody = ethers.Wallet.createRandom();
      const [good] = await attestations(system, placed, makeOutcome(), [1]);
      const bad = await attest(nobody, system.domain, placed.hash, makeOutcome(), anchorFor(system, 2));
      await expect(bridge.fulfil(placed.id, placed.order, makeOutcome(), [good, bad]))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner").withArgs(1, nobody.address);
    });

    const foreign: [string, (system: System) => object][] = [
      ["another chain", () => ({ chainId: 314n })],
      ["another contract", (system) => ({ verifyingContract: system.curator.address })],
      ["another name", () => ({ name: "InsulaNodeRegistry" })],
      ["another version", () => ({ version: "2" })],
    ];
    for (const [what, change] of foreign) {
      it(`for ${what} are refused`, async () => {
        const { bridge, system, placed } = await trio({ nodes: 1, quorum: 1 });
        const domain = { ...system.domain, ...change(system) };
        const signed = await attest(keys[0], domain, placed.hash, makeOutcome(), anchorFor(system, 1));
        await expect(bridge.fulfil(placed.id, placed.order, makeOutcome(), [signed]))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner");
      });
    }

    const altered: [string, object][] = [
      ["receipt hash", { receiptHash: repeated("99", 32) }],
      ["log root", { logRoot: repeated("99", 32) }],
      ["log size", { logSize: 99n }],
    ];
    for (const [what, change] of altered) {
      it(`with an altered ${what} are refused`, async () => {
        const { bridge, system, placed } = await trio({ nodes: 1, quorum: 1 });
        const [signed] = await attestations(system, placed, makeOutcome(), [1]);
        await expect(bridge.fulfil(placed.id, placed.order, makeOutcome(), [{ ...signed, ...change }]))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner");
      });
    }

    it("over another outcome are refused", async () => {
      const { bridge, system, placed } = await trio();
      const signed = await attestations(system, placed, makeOutcome(), [1, 2]);
      await expect(bridge.fulfil(placed.id, placed.order, makeOutcome({ exitCode: 1 }), signed))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner");
    });

    const malformed: [string, (good: Signature) => string][] = [
      ["a high s", (good) => {
        const s = ethers.toBeHex(CURVE_ORDER - BigInt(good.s), 32);
        return ethers.concat([good.r, s, ethers.toBeHex(good.v === 27 ? 28 : 27)]);
      }],
      ["64 bytes", (good) => good.compactSerialized],
      ["66 bytes", (good) => `${good.serialized}00`],
      ["a v of 0 or 1", (good) => ethers.concat([good.r, good.s, ethers.toBeHex(good.v - 27)])],
      ["no bytes", () => "0x"],
      ["zeros only", () => repeated("00", 65)],
    ];
    for (const [what, change] of malformed) {
      it(`with a signature of ${what} are refused`, async () => {
        const { bridge, system, placed } = await trio({ nodes: 1, quorum: 1 });
        const [signed] = await attestations(system, placed, makeOutcome(), [1]);
        signed.signature = change(Signature.from(signed.signature));
        await expect(bridge.fulfil(placed.id, placed.order, makeOutcome(), [signed]))
          .to.be.revertedWithCustomError(bridge, "ComputeBridgeUnknownSigner").withArgs(0, ZeroAddress);
      });
    }

    it("are typed as the interface says", async () => {
      const { bridge } = await loadFixture(deployed);
      const fields = ATTESTATION_TYPES.Attestation.map(({ type, name }) => `${type} ${name}`).join(",");
      expect(await bridge.ATTESTATION_TYPEHASH()).to.equal(ethers.id(`Attestation(${fields})`));
    });
  });
});
