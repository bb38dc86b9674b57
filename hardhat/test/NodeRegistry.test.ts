import { expect } from "chai";
import { Wallet, ZeroAddress } from "ethers";

import { CHAIN_ID, deployed, ethers, GPU, keys, keySignature, loadFixture, NOTICE, time } from "./helpers/fixture.ts";
import { labelHash, NODE_KEY_TYPES, registryDomain, repeated } from "./helpers/wire.ts";

const ADMITTED = labelHash("node=admitted");

/** A fresh node of `stranger`, without key or labels. */
async function fixture() {
  const system = await deployed();
  await system.registry.connect(system.stranger).register([], "");
  const nodeId = await system.registry.nodeCount();
  const registry = system.registry.connect(system.stranger);
  return { ...system, registry, nodeId, registryAt: await registry.getAddress(), key: Wallet.createRandom() };
}

describe("NodeRegistry", () => {
  describe("register", () => {
    it("numbers nodes from 1 and declares their labels", async () => {
      const { registry, stranger, nodeId } = await loadFixture(fixture);
      const labels = [{ key: "gpu", value: "a100" }, { key: "site/room", value: "" }];
      const expected = nodeId + 1n;
      await expect(registry.register(labels, '{"name":"x"}'))
        .to.emit(registry, "NodeRegistered").withArgs(expected, stranger.address, '{"name":"x"}')
        .and.to.emit(registry, "LabelDeclared").withArgs(expected, labelHash("gpu=a100"), "gpu", "a100")
        .and.to.emit(registry, "LabelDeclared").withArgs(expected, labelHash("site/room="), "site/room", "");
      expect(await registry.nodeCount()).to.equal(expected);
      expect(await registry.nodeOf(expected)).to.deep.equal([stranger.address, ZeroAddress, true]);
      const hashes = [labelHash("gpu=a100"), labelHash("site/room="), labelHash("gpu=")];
      expect(await registry.labelsCount(expected, ZeroAddress, hashes)).to.deep.equal([true, true, false]);
    });

    it("refuses metadata of more than 1024 bytes", async () => {
      const { registry } = await loadFixture(fixture);
      await registry.register([], "m".repeat(1024));
      await expect(registry.register([], "m".repeat(1025)))
        .to.be.revertedWithCustomError(registry, "NodeRegistryMetadataTooLong").withArgs(1025, 1024);
    });

    it("refuses the same label twice", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      const label = { key: "gpu", value: "yes" };
      await expect(registry.register([label, label], ""))
        .to.be.revertedWithCustomError(registry, "NodeRegistryLabelAlreadyDeclared").withArgs(nodeId + 1n, GPU);
    });

    const refused: [string, string, string][] = [
      ["an empty key", "", "x"],
      ["a key in upper case", "GPU", "x"],
      ["a key that begins with punctuation", ".gpu", "x"],
      ["a key with an equals sign", "a=b", "x"],
      ["a key with a space", "a b", "x"],
      ["a key of 64 bytes", "k".repeat(64), "x"],
      ["a key beyond ASCII", "größe", "x"],
      ["a value with a slash", "a", "x/y"],
      ["a value with a comma", "a", "x,y"],
      ["a value of 64 bytes", "a", "v".repeat(64)],
      ["a value with a line break", "a", "x\n"],
    ];
    for (const [what, key, value] of refused) {
      it(`refuses ${what}`, async () => {
        const { registry } = await loadFixture(fixture);
        await expect(registry.register([{ key, value }], ""))
          .to.be.revertedWithCustomError(registry, "NodeRegistryInvalidLabel").withArgs(key, value);
      });
    }

    it("takes labels at the edge of the grammar", async () => {
      const { registry } = await loadFixture(fixture);
      const labels = [{ key: "0", value: "" }, { key: `k${"9._/-".repeat(12)}aa`, value: "Az09._-".repeat(9) }];
      expect(labels[1].key).to.have.length(63);
      expect(labels[1].value).to.have.length(63);
      await registry.register(labels, "");
    });
  });

  describe("joinKey", () => {
    it("makes a key current by its own signature", async () => {
      const { registry, registryAt, stranger, nodeId, key } = await loadFixture(fixture);
      const signature = await keySignature(key, registryAt, stranger.address, nodeId, 0n);
      await expect(registry.joinKey(nodeId, key.address, signature))
        .to.emit(registry, "KeyJoined").withArgs(nodeId, key.address, ZeroAddress);
      expect(await registry.nodeOf(nodeId)).to.deep.equal([stranger.address, key.address, true]);
      expect(await registry.nodeOfKey(key.address)).to.equal(nodeId);
      expect(await registry.activeNodeOfKey(key.address)).to.deep.equal([nodeId, stranger.address]);
      expect(await registry.keyNonce(nodeId)).to.equal(1n);
    });

    it("keeps a replaced key's node, but the key is current no more and cannot come back", async () => {
      const { registry, registryAt, stranger, nodeId, key } = await loadFixture(fixture);
      await registry.joinKey(nodeId, key.address, await keySignature(key, registryAt, stranger.address, nodeId, 0n));
      const next = Wallet.createRandom();
      const signature = await keySignature(next, registryAt, stranger.address, nodeId, 1n);
      await expect(registry.joinKey(nodeId, next.address, signature))
        .to.emit(registry, "KeyJoined").withArgs(nodeId, next.address, key.address);
      expect(await registry.nodeOfKey(key.address)).to.equal(nodeId);
      expect(await registry.activeNodeOfKey(key.address)).to.deep.equal([0n, ZeroAddress]);
      const again = await keySignature(key, registryAt, stranger.address, nodeId, 2n);
      await expect(registry.joinKey(nodeId, key.address, again))
        .to.be.revertedWithCustomError(registry, "NodeRegistryKeyTaken").withArgs(key.address, nodeId);
    });

    it("refuses a key that another node has", async () => {
      const { registry, registryAt, stranger, nodeId } = await loadFixture(fixture);
      const signature = await keySignature(keys[0], registryAt, stranger.address, nodeId, 0n);
      await expect(registry.joinKey(nodeId, keys[0].address, signature))
        .to.be.revertedWithCustomError(registry, "NodeRegistryKeyTaken").withArgs(keys[0].address, 1);
    });

    it("refuses the key zero", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      await expect(registry.joinKey(nodeId, ZeroAddress, "0x"))
        .to.be.revertedWithCustomError(registry, "NodeRegistryInvalidKey").withArgs(ZeroAddress);
    });

    it("refuses a signature by another key", async () => {
      const { registry, registryAt, stranger, nodeId, key } = await loadFixture(fixture);
      const signature = await keySignature(keys[4], registryAt, stranger.address, nodeId, 0n);
      await expect(registry.joinKey(nodeId, key.address, signature))
        .to.be.revertedWithCustomError(registry, "NodeRegistryInvalidKeySignature")
        .withArgs(key.address, keys[4].address);
    });

    it("refuses a malformed signature", async () => {
      const { registry, nodeId, key } = await loadFixture(fixture);
      await expect(registry.joinKey(nodeId, key.address, repeated("00", 64)))
        .to.be.revertedWithCustomError(registry, "NodeRegistryInvalidKeySignature").withArgs(key.address, ZeroAddress);
    });

    const foreign: [string, (s: Awaited<ReturnType<typeof fixture>>) => [object, object]][] = [
      ["another operator", (s) => [{}, { operator: s.owner.address }]],
      ["another node", (s) => [{}, { nodeId: s.nodeId + 1n }]],
      ["another nonce", () => [{}, { nonce: 1n }]],
      ["another chain", () => [{ chainId: 1n }, {}]],
      ["another registry", (s) => [{ verifyingContract: s.bridgeAt }, {}]],
      ["another version", () => [{ version: "2" }, {}]],
    ];
    for (const [what, change] of foreign) {
      it(`refuses a signature for ${what}`, async () => {
        const system = await loadFixture(fixture);
        const { registry, registryAt, stranger, nodeId, key } = system;
        const [domain, message] = change(system);
        const signature = await key.signTypedData(
          { ...registryDomain(CHAIN_ID, registryAt), ...domain },
          NODE_KEY_TYPES,
          { operator: stranger.address, nodeId, nonce: 0n, ...message },
        );
        await expect(registry.joinKey(nodeId, key.address, signature))
          .to.be.revertedWithCustomError(registry, "NodeRegistryInvalidKeySignature");
      });
    }
  });

  describe("labels", () => {
    it("are declared later too", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      await expect(registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]))
        .to.emit(registry, "LabelDeclared").withArgs(nodeId, GPU, "gpu", "yes");
      await expect(registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]))
        .to.be.revertedWithCustomError(registry, "NodeRegistryLabelAlreadyDeclared").withArgs(nodeId, GPU);
    });

    it("count until the notice is over", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      await registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]);
      const at = BigInt(await time.latest()) + 10n;
      await time.setNextBlockTimestamp(at);
      await expect(registry.removeLabels(nodeId, [GPU]))
        .to.emit(registry, "LabelRemoved").withArgs(nodeId, GPU, at + NOTICE);
      await time.increaseTo(at + NOTICE - 1n);
      expect(await registry.carries(nodeId, ZeroAddress, [GPU])).to.equal(true);
      await time.increaseTo(at + NOTICE);
      expect(await registry.carries(nodeId, ZeroAddress, [GPU])).to.equal(false);
    });

    it("cannot be removed twice, nor before they are declared", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      const notDeclared = () => expect(registry.removeLabels(nodeId, [GPU]))
        .to.be.revertedWithCustomError(registry, "NodeRegistryLabelNotDeclared").withArgs(nodeId, GPU);
      await notDeclared();
      await registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]);
      await registry.removeLabels(nodeId, [GPU]);
      await notDeclared();
    });

    it("stay when they are declared again under notice", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      await registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]);
      await registry.removeLabels(nodeId, [GPU]);
      await registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]);
      await time.increase(2n * NOTICE);
      expect(await registry.carries(nodeId, ZeroAddress, [GPU])).to.equal(true);
    });

    it("are 64 at most, and removing makes room", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      const many = Array.from({ length: 64 }, (_, i) => ({ key: `k${i}`, value: "" }));
      await registry.declareLabels(nodeId, many);
      await expect(registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]))
        .to.be.revertedWithCustomError(registry, "NodeRegistryTooManyLabels").withArgs(65, 64);
      await registry.removeLabels(nodeId, [labelHash("k0=")]);
      await registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]);
    });

    it("by a node's own word count for no curator, and the reverse", async () => {
      const { registry, curator, nodeId } = await loadFixture(fixture);
      await registry.declareLabels(nodeId, [{ key: "gpu", value: "yes" }]);
      expect(await registry.carries(nodeId, curator.address, [GPU])).to.equal(false);
      const other = labelHash("tier=gvisor");
      await registry.connect(curator).vouch(nodeId, [other]);
      expect(await registry.carries(nodeId, curator.address, [other])).to.equal(true);
      expect(await registry.carries(nodeId, ZeroAddress, [other])).to.equal(false);
    });

    it("none asked for: a curator's word is admission, without a curator every node will do", async () => {
      const { registry, curator, nodeId } = await loadFixture(fixture);
      expect(await registry.carries(nodeId, ZeroAddress, [])).to.equal(true);
      expect(await registry.carries(nodeId, curator.address, [])).to.equal(false);
      await registry.connect(curator).vouch(nodeId, [ADMITTED]);
      expect(await registry.carries(nodeId, curator.address, [])).to.equal(true);
      expect(await registry.ADMITTED()).to.equal(ADMITTED);
    });
  });

  describe("vouch", () => {
    it("gives and takes a curator's word at once", async () => {
      const { registry, curator, nodeId } = await loadFixture(fixture);
      const word = registry.connect(curator);
      await expect(word.vouch(nodeId, [GPU, ADMITTED]))
        .to.emit(registry, "Vouched").withArgs(curator.address, nodeId, GPU)
        .and.to.emit(registry, "Vouched").withArgs(curator.address, nodeId, ADMITTED);
      expect(await registry.labelsCount(nodeId, curator.address, [ADMITTED, GPU])).to.deep.equal([true, true]);
      await expect(word.withdrawVouch(nodeId, [GPU]))
        .to.emit(registry, "VouchWithdrawn").withArgs(curator.address, nodeId, GPU);
      expect(await registry.labelsCount(nodeId, curator.address, [ADMITTED, GPU])).to.deep.equal([true, false]);
    });

    it("is refused twice, and so is taking back what was not given", async () => {
      const { registry, curator, nodeId } = await loadFixture(fixture);
      const word = registry.connect(curator);
      await expect(word.withdrawVouch(nodeId, [GPU]))
        .to.be.revertedWithCustomError(registry, "NodeRegistryNotVouched").withArgs(curator.address, nodeId, GPU);
      await word.vouch(nodeId, [GPU]);
      await expect(word.vouch(nodeId, [GPU]))
        .to.be.revertedWithCustomError(registry, "NodeRegistryAlreadyVouched").withArgs(curator.address, nodeId, GPU);
    });
  });

  describe("deactivate and reactivate", () => {
    it("work after the notice, and at once", async () => {
      const { registry, registryAt, stranger, nodeId, key } = await loadFixture(fixture);
      await registry.joinKey(nodeId, key.address, await keySignature(key, registryAt, stranger.address, nodeId, 0n));
      const at = BigInt(await time.latest()) + 10n;
      await time.setNextBlockTimestamp(at);
      await expect(registry.deactivate(nodeId)).to.emit(registry, "NodeDeactivated").withArgs(nodeId, at + NOTICE);
      await time.increaseTo(at + NOTICE - 1n);
      expect(await registry.activeNodeOfKey(key.address)).to.deep.equal([nodeId, stranger.address]);
      await time.increaseTo(at + NOTICE);
      expect(await registry.activeNodeOfKey(key.address)).to.deep.equal([0n, ZeroAddress]);
      expect((await registry.nodeOf(nodeId)).active).to.equal(false);
      await expect(registry.reactivate(nodeId)).to.emit(registry, "NodeReactivated").withArgs(nodeId);
      expect((await registry.nodeOf(nodeId)).active).to.equal(true);
    });

    it("are refused twice", async () => {
      const { registry, nodeId } = await loadFixture(fixture);
      await expect(registry.reactivate(nodeId))
        .to.be.revertedWithCustomError(registry, "NodeRegistryAlreadyActive").withArgs(nodeId);
      await registry.deactivate(nodeId);
      await expect(registry.deactivate(nodeId))
        .to.be.revertedWithCustomError(registry, "NodeRegistryNotActive").withArgs(nodeId);
    });
  });

  it("changes metadata within its limit", async () => {
    const { registry, nodeId } = await loadFixture(fixture);
    await expect(registry.setMetadata(nodeId, "m")).to.emit(registry, "MetadataChanged").withArgs(nodeId, "m");
    await expect(registry.setMetadata(nodeId, "m".repeat(1025)))
      .to.be.revertedWithCustomError(registry, "NodeRegistryMetadataTooLong").withArgs(1025, 1024);
  });

  it("knows its notice, and no key that never joined", async () => {
    const { registry } = await loadFixture(fixture);
    expect(await registry.notice()).to.equal(NOTICE);
    expect(await registry.nodeOfKey(ZeroAddress)).to.equal(0n);
    expect(await registry.activeNodeOfKey(ZeroAddress)).to.deep.equal([0n, ZeroAddress]);
  });

  const operatorOnly: [string, unknown[]][] = [
    ["joinKey", [ethers.ZeroAddress, "0x"]],
    ["setMetadata", [""]],
    ["declareLabels", [[]]],
    ["removeLabels", [[]]],
    ["deactivate", []],
    ["reactivate", []],
  ];
  for (const [name, rest] of operatorOnly) {
    it(`lets only the operator call ${name}`, async () => {
      const { registry, nodeId, owner } = await loadFixture(fixture);
      await expect(registry.connect(owner).getFunction(name)(nodeId, ...rest))
        .to.be.revertedWithCustomError(registry, "NodeRegistryNotOperator").withArgs(nodeId, owner.address);
    });
  }

  const ofUnknownNode: [string, unknown[]][] = [
    ...operatorOnly,
    ["vouch", [[]]],
    ["withdrawVouch", [[]]],
    ["nodeOf", []],
    ["keyNonce", []],
    ["labelsCount", [ethers.ZeroAddress, []]],
    ["carries", [ethers.ZeroAddress, []]],
  ];
  for (const [name, rest] of ofUnknownNode) {
    it(`refuses ${name} of a node that is not there`, async () => {
      const { registry } = await loadFixture(fixture);
      for (const nodeId of [0n, 99n]) {
        await expect(registry.getFunction(name)(nodeId, ...rest))
          .to.be.revertedWithCustomError(registry, "NodeRegistryUnknownNode").withArgs(nodeId);
      }
    });
  }
});
