import { expect } from "chai";
import { type BaseWallet, Signature, Wallet, ZeroAddress, ZeroHash } from "ethers";

import {
  anchorFor,
  CANCEL_DELAY,
  CHAIN_ID,
  deployed,
  ethers,
  keys,
  keySignature,
  latest,
  loadFixture,
  MAX_TTL,
  MIN_TTL,
  NOTICE,
  place,
  type System,
  time,
  UNBONDING,
} from "./helpers/fixture.ts";
import {
  attest,
  bridgeDomain,
  type Domain,
  makeOrder,
  makeOutcome,
  type Outcome,
  outcomeHash,
  repeated,
  Status,
} from "./helpers/wire.ts";

const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const STAKE = 1_000_000_007n;
const BURNT_FUNDS = "0xff00000000000000000000000000000000000063";
const YES = makeOutcome();
const NO = makeOutcome({ status: Status.Failed, reason: 200, exitCode: 1 });

/** Node 1 with a stake, a request, and somebody who watches. */
async function fixture() {
  const system = await deployed();
  const registry = system.registry.connect(system.operators[0]);
  await registry.stake(1, { value: STAKE });
  const placed = await place(system, makeOrder({ nodes: 3, quorum: 2 }));
  return { ...system, system, registry, registryAt: await registry.getAddress(), placed, prover: system.stranger };
}

interface Signing {
  key?: BaseWallet;
  domain?: Domain;
  hash: string;
}

async function signed(system: System, outcome: Outcome, { key = keys[0], domain = system.domain, hash }: Signing) {
  const attestation = await attest(key, domain, hash, outcome, anchorFor(system, 1));
  return { outcomeHash: outcomeHash(outcome), ...attestation };
}

async function contradiction(system: System, signing: Signing, other: Partial<Signing> = {}) {
  return [await signed(system, YES, signing), await signed(system, NO, { ...signing, ...other })] as const;
}

/** What the registry holds beyond what it owes. */
async function surplus({ registry }: System): Promise<bigint> {
  return (await ethers.provider.getBalance(await registry.getAddress())) - (await registry.owed());
}

async function rotate({ registry, operators }: System, nodeId: number, nonce: bigint): Promise<BaseWallet> {
  const key = new Wallet(ethers.id(`rotated ${nodeId} ${nonce}`));
  const operator = operators[nodeId - 1];
  const signature = await keySignature(key, await registry.getAddress(), operator.address, BigInt(nodeId), nonce);
  await registry.connect(operator).joinKey(nodeId, key.address, signature);
  return key;
}

describe("NodeRegistry: stake", () => {
  describe("unbonding time", () => {
    it("is at least seven days", async () => {
      const { registry } = await loadFixture(deployed);
      const factory = await ethers.getContractFactory("NodeRegistry");
      await expect(factory.deploy(NOTICE, 7 * 86_400 - 1))
        .to.be.revertedWithCustomError(registry, "NodeRegistryInvalidParameter").withArgs("unbonding");
      const shortest = await factory.deploy(NOTICE, 7 * 86_400);
      expect(await shortest.unbonding()).to.equal(7 * 86_400);
      expect(await registry.unbonding()).to.equal(UNBONDING);
    });

    it("is at least a bridge's longest ttl and seven days, or there is no such bridge", async () => {
      const { registry, bridge, owner } = await loadFixture(deployed);
      const factory = await ethers.getContractFactory("ComputeBridge");
      await expect(factory.deploy(registry, MIN_TTL, MAX_TTL + 1, CANCEL_DELAY, owner))
        .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidParameter").withArgs("maxTtl");
    });
  });

  describe("stake", () => {
    it("adds to what is bonded", async () => {
      const { registry, registryAt, system } = await loadFixture(fixture);
      const more = registry.stake(1, { value: 5n });
      await expect(more).to.emit(registry, "StakeAdded").withArgs(1, 5n, STAKE + 5n);
      await expect(more).to.changeEtherBalance(ethers, registryAt, 5n);
      expect(await registry.stakeOf(1)).to.deep.equal([STAKE + 5n, 0n, 0n]);
      expect(await registry.stakeOf(2)).to.deep.equal([0n, 0n, 0n]);
      expect(await registry.owed()).to.equal(STAKE + 5n);
      expect(await surplus(system)).to.equal(0n);
    });

    it("of nothing is refused", async () => {
      const { registry } = await loadFixture(fixture);
      await expect(registry.stake(1)).to.be.revertedWithCustomError(registry, "NodeRegistryNoAmount").withArgs(1);
    });

    it("is no plain transfer", async () => {
      const { registryAt, stranger } = await loadFixture(fixture);
      await expect(stranger.sendTransaction({ to: registryAt, value: 1n })).to.be.revertedWithoutReason(ethers);
    });
  });

  describe("unstake", () => {
    it("lets an amount unbond", async () => {
      const { registry } = await loadFixture(fixture);
      const at = (await latest()) + 10n;
      await time.setNextBlockTimestamp(at);
      await expect(registry.unstake(1, 7n)).to.emit(registry, "StakeUnbonding").withArgs(1, 7n, 7n, at + UNBONDING);
      expect(await registry.stakeOf(1)).to.deep.equal([STAKE - 7n, 7n, at + UNBONDING]);
      expect(await registry.owed()).to.equal(STAKE);
    });

    it("again lets all of it wait from now on", async () => {
      const { registry } = await loadFixture(fixture);
      await registry.unstake(1, 7n);
      const at = (await latest()) + UNBONDING - 1n;
      await time.setNextBlockTimestamp(at);
      await expect(registry.unstake(1, STAKE - 7n))
        .to.emit(registry, "StakeUnbonding").withArgs(1, STAKE - 7n, STAKE, at + UNBONDING);
      expect(await registry.stakeOf(1)).to.deep.equal([0n, STAKE, at + UNBONDING]);
    });

    it("of nothing or of more than is bonded is refused", async () => {
      const { registry } = await loadFixture(fixture);
      await expect(registry.unstake(1, 0)).to.be.revertedWithCustomError(registry, "NodeRegistryNoAmount").withArgs(1);
      await registry.unstake(1, 1n);
      await expect(registry.unstake(1, STAKE))
        .to.be.revertedWithCustomError(registry, "NodeRegistryInsufficientStake").withArgs(1, STAKE - 1n, STAKE);
    });
  });

  describe("withdrawStake", () => {
    it("sends what has unbonded once its time has come, and not a second before", async () => {
      const { registry, registryAt, system, curator } = await loadFixture(fixture);
      await registry.unstake(1, 7n);
      const releasedAt = (await latest()) + UNBONDING;
      await time.setNextBlockTimestamp(releasedAt - 1n);
      await expect(registry.withdrawStake(1, curator))
        .to.be.revertedWithCustomError(registry, "NodeRegistryStillUnbonding").withArgs(1, releasedAt);
      await time.setNextBlockTimestamp(releasedAt);
      const drawn = registry.withdrawStake(1, curator);
      await expect(drawn).to.emit(registry, "StakeWithdrawn").withArgs(1, curator.address, 7n);
      await expect(drawn).to.changeEtherBalances(ethers, [registryAt, curator], [-7n, 7n]);
      expect(await registry.stakeOf(1)).to.deep.equal([STAKE - 7n, 0n, 0n]);
      expect(await registry.owed()).to.equal(STAKE - 7n);
      expect(await surplus(system)).to.equal(0n);
    });

    it("is refused where nothing unbonds", async () => {
      const { registry, curator } = await loadFixture(fixture);
      await expect(registry.withdrawStake(1, curator))
        .to.be.revertedWithCustomError(registry, "NodeRegistryNothingUnbonding").withArgs(1);
    });

    it("loses nothing when the receiver refuses, or is zero", async () => {
      const { registry } = await loadFixture(fixture);
      const refusing = await ethers.deployContract("HostileCallback");
      await registry.unstake(1, 7n);
      await time.increase(UNBONDING);
      for (const to of [await refusing.getAddress(), ZeroAddress]) {
        await expect(registry.withdrawStake(1, to))
          .to.be.revertedWithCustomError(registry, "NodeRegistryTransferFailed").withArgs(to, 7n);
      }
      expect((await registry.stakeOf(1)).unbonding_).to.equal(7n);
    });

    it("cannot be entered twice at once", async () => {
      const { registry, registryAt, system } = await loadFixture(fixture);
      const operator = await ethers.deployContract("ReentrantReceiver");
      const act = async (name: string, args: unknown[], value = 0n) =>
        operator.act(registryAt, registry.interface.encodeFunctionData(name as "stake", args as never), { value });
      await act("register", [[], ""]);
      const nodeId = await registry.nodeCount();
      await act("stake", [nodeId], 100n);
      await act("unstake", [nodeId, 60n]);
      await time.increase(UNBONDING);
      const to = await operator.getAddress();
      await operator.setCall(registryAt, registry.interface.encodeFunctionData("withdrawStake", [nodeId, to]));
      await act("withdrawStake", [nodeId, to]);
      expect(await operator.innerSuccess()).to.equal(false);
      expect(await operator.innerReturned()).to.equal(ethers.id("ReentrancyGuardReentrantCall()").slice(0, 10));
      expect(await ethers.provider.getBalance(to)).to.equal(60n);
      expect(await registry.stakeOf(nodeId)).to.deep.equal([40n, 0n, 0n]);
      expect(await surplus(system)).to.equal(0n);
    });
  });

  it("does not touch native tokens that were forced in", async () => {
    const { registry, registryAt, system, curator } = await loadFixture(fixture);
    await ethers.deployContract("ForcedEther", [registryAt], { value: 77n });
    await registry.unstake(1, STAKE);
    await time.increase(UNBONDING);
    await registry.withdrawStake(1, curator);
    expect(await registry.owed()).to.equal(0n);
    expect(await surplus(system)).to.equal(77n);
  });

  const operatorOnly: [string, unknown[]][] = [
    ["stake", []],
    ["unstake", [1n]],
    ["withdrawStake", [BURNT_FUNDS]],
  ];
  for (const [name, rest] of operatorOnly) {
    it(`lets only the operator call ${name}`, async () => {
      const { registry, stranger } = await loadFixture(fixture);
      await expect(registry.connect(stranger).getFunction(name)(1n, ...rest))
        .to.be.revertedWithCustomError(registry, "NodeRegistryNotOperator").withArgs(1, stranger.address);
    });
  }
  for (const [name, rest] of [...operatorOnly, ["stakeOf", []] as [string, unknown[]]]) {
    it(`refuses ${name} of a node that is not there`, async () => {
      const { registry } = await loadFixture(fixture);
      for (const nodeId of [0n, 99n]) {
        await expect(registry.getFunction(name)(nodeId, ...rest))
          .to.be.revertedWithCustomError(registry, "NodeRegistryUnknownNode").withArgs(nodeId);
      }
    });
  }
});

describe("NodeRegistry: every call on stake in every state of it", () => {
  type Made = Awaited<ReturnType<typeof fixture>>;
  const reach: Record<string, (made: Made) => Promise<unknown>> = {
    bonded: async () => undefined,
    unbonding: ({ registry }) => registry.unstake(1, STAKE),
    released: async (made) => {
      await reach.unbonding(made);
      await time.increase(UNBONDING);
    },
    withdrawn: async (made) => {
      await reach.released(made);
      await made.registry.withdrawStake(1, made.curator);
    },
    slashed: async ({ registry, bridgeAt, system }) => {
      const other = await place(system, makeOrder());
      await registry.slash(bridgeAt, other.hash, ...(await contradiction(system, other)));
    },
    "slashed, another key joined": async (made) => {
      await reach.slashed(made);
      await rotate(made.system, 1, 1n);
    },
  };
  const calls: Record<string, (made: Made) => Promise<unknown>> = {
    stake: ({ registry }) => registry.stake(1, { value: 1n }),
    unstake: ({ registry }) => registry.unstake(1, 1n),
    withdrawStake: ({ registry, curator }) => registry.withdrawStake(1, curator),
    slash: async ({ registry, bridgeAt, system, placed }) =>
      registry.slash(bridgeAt, placed.hash, ...(await contradiction(system, placed))),
  };
  const [little, early] = ["NodeRegistryInsufficientStake", "NodeRegistryStillUnbonding"];
  const [none, nothing] = ["NodeRegistryNothingUnbonding", "NodeRegistryNothingToSlash"];
  const proven = "NodeRegistryAlreadyProven";
  /** The error of each call, in the order of `calls`; none where it is fine. */
  const matrix: Record<string, (string | null)[]> = {
    bonded: [null, null, none, null],
    unbonding: [null, little, early, null],
    released: [null, little, null, null],
    withdrawn: [null, little, none, nothing],
    slashed: ["NodeRegistryStakeUnderProvenKey", little, none, proven],
    "slashed, another key joined": [null, little, none, proven],
  };
  for (const [state, row] of Object.entries(matrix)) {
    for (const [index, [name, call]] of Object.entries(calls).entries()) {
      const error = row[index];
      it(`${state}: ${name} ${error === null ? "is fine" : `reverts with ${error}`}`, async () => {
        const made = await loadFixture(fixture);
        await reach[state](made);
        if (error === null) await call(made);
        else await expect(call(made)).to.be.revertedWithCustomError(made.registry, error);
        expect(await surplus(made.system)).to.equal(0n);
      });
    }
  }
});

describe("NodeRegistry: slash", () => {
  it("takes the whole stake of a node that contradicts itself: a tenth to the prover, the rest burned", async () => {
    const { registry, registryAt, bridgeAt, system, placed, prover } = await loadFixture(fixture);
    await registry.unstake(1, 1000n);
    const proof = await contradiction(system, placed);
    const reward = STAKE / 10n;
    const call = registry.connect(prover);
    expect(await call.slash.staticCall(bridgeAt, placed.hash, ...proof)).to.deep.equal([1n, reward]);
    expect(await registry.isProven(keys[0])).to.equal(false);
    const sent = call.slash(bridgeAt, placed.hash, ...proof);
    await expect(sent).to.emit(registry, "NodeSlashed").withArgs(
      1, placed.hash, prover.address, bridgeAt, keys[0].address, outcomeHash(YES), outcomeHash(NO), STAKE, reward,
    );
    await expect(sent).to.changeEtherBalances(ethers, [registryAt, BURNT_FUNDS], [reward - STAKE, STAKE - reward]);
    expect(await registry.stakeOf(1)).to.deep.equal([0n, 0n, 0n]);
    expect(await registry.rewardOf(prover)).to.equal(reward);
    expect(await registry.owed()).to.equal(reward);
    expect(await registry.isProven(keys[0])).to.equal(true);
    expect(await surplus(system)).to.equal(0n);
  });

  it("touches no other node's stake", async () => {
    const { registry, bridgeAt, system, placed, prover, operators } = await loadFixture(fixture);
    await registry.connect(operators[1]).stake(2, { value: 50n });
    await registry.stake(4, { value: 60n });
    await registry.connect(prover).slash(bridgeAt, placed.hash, ...(await contradiction(system, placed)));
    expect((await registry.stakeOf(2)).bonded).to.equal(50n);
    expect((await registry.stakeOf(4)).bonded).to.equal(60n);
    expect(await surplus(system)).to.equal(0n);
  });

  it("burns all of a stake too small for a tenth", async () => {
    const { registry, bridgeAt, system, placed, prover, operators } = await loadFixture(fixture);
    await registry.connect(operators[1]).stake(2, { value: 9n });
    const proof = await contradiction(system, { ...placed, key: keys[1] });
    await expect(registry.connect(prover).slash(bridgeAt, placed.hash, ...proof))
      .to.changeEtherBalance(ethers, BURNT_FUNDS, 9n);
    expect(await registry.rewardOf(prover)).to.equal(0n);
  });

  it("reaches stake that unbonds, up to its withdrawal", async () => {
    const { registry, bridgeAt, system, placed, prover, curator } = await loadFixture(fixture);
    await registry.unstake(1, STAKE);
    await time.increase(UNBONDING);
    await registry.connect(prover).slash(bridgeAt, placed.hash, ...(await contradiction(system, placed)));
    await expect(registry.withdrawStake(1, curator))
      .to.be.revertedWithCustomError(registry, "NodeRegistryNothingUnbonding").withArgs(1);
    expect(await registry.owed()).to.equal(STAKE / 10n);
  });

  it("reaches a node by a key that it has replaced, and one that left", async () => {
    const { registry, bridgeAt, system, placed, prover } = await loadFixture(fixture);
    await rotate(system, 1, 1n);
    await registry.deactivate(1);
    await time.increase(NOTICE);
    await registry.connect(prover).slash(bridgeAt, placed.hash, ...(await contradiction(system, placed)));
    expect(await registry.rewardOf(prover)).to.equal(STAKE / 10n);
  });

  it("works in either order, for any two outcomes, of a request that is settled too", async () => {
    const { registry, bridgeAt, system, placed, prover } = await loadFixture(fixture);
    const other = makeOutcome({ reason: 1 });
    const both = [await signed(system, other, placed), await signed(system, YES, placed)] as const;
    await registry.connect(prover).slash(bridgeAt, placed.hash, ...both);
    expect(await registry.isProven(keys[0])).to.equal(true);
  });

  it("works once for a key, with whatever outcomes of whatever request: a thief of an old key cannot end a node", async () => {
    const { registry, bridgeAt, system, placed, prover } = await loadFixture(fixture);
    const [yes, no] = await contradiction(system, placed);
    const third = await signed(system, makeOutcome({ reason: 5 }), placed);
    const next = await place(system, makeOrder());
    await registry.connect(prover).slash(bridgeAt, placed.hash, yes, no);
    await rotate(system, 1, 1n);
    await registry.stake(1, { value: 10n });
    for (const proof of [[yes, no], [no, yes], [yes, third]] as const) {
      await expect(registry.connect(prover).slash(bridgeAt, placed.hash, proof[0], proof[1]))
        .to.be.revertedWithCustomError(registry, "NodeRegistryAlreadyProven").withArgs(1, keys[0]);
    }
    await expect(registry.connect(prover).slash(bridgeAt, next.hash, ...(await contradiction(system, next))))
      .to.be.revertedWithCustomError(registry, "NodeRegistryAlreadyProven").withArgs(1, keys[0]);
    expect((await registry.stakeOf(1)).bonded).to.equal(10n);
  });

  it("cannot be used up with a dust of stake before the request is made: nothing is staked under a proven key", async () => {
    const { registry, bridgeAt, system, prover, operators } = await loadFixture(fixture);
    const cheat = registry.connect(operators[1]);
    // A request's hash can be computed before the request is made.
    const hash = repeated("ab", 32);
    const ahead = await contradiction(system, { hash, key: keys[1] });
    await cheat.stake(2, { value: 1n });
    await cheat.slash(bridgeAt, hash, ...ahead);
    await expect(cheat.stake(2, { value: 1000n }))
      .to.be.revertedWithCustomError(registry, "NodeRegistryStakeUnderProvenKey").withArgs(2, keys[1]);
    // Another key may stake, and answers for what it signs itself, of this request too.
    const next = await rotate(system, 2, 1n);
    await cheat.stake(2, { value: 1000n });
    await registry.connect(prover).slash(bridgeAt, hash, ...(await contradiction(system, { hash, key: next })));
    expect(await registry.rewardOf(prover)).to.equal(100n);
    expect(await surplus(system)).to.equal(0n);
  });

  it("works for each key that contradicts itself, and for each node", async () => {
    const { registry, bridgeAt, system, placed, prover, operators } = await loadFixture(fixture);
    const next = await place(system, makeOrder());
    await registry.connect(operators[1]).stake(2, { value: 100n });
    const call = registry.connect(prover);
    await call.slash(bridgeAt, placed.hash, ...(await contradiction(system, placed)));
    const key = await rotate(system, 1, 1n);
    await registry.stake(1, { value: 100n });
    await call.slash(bridgeAt, next.hash, ...(await contradiction(system, { ...next, key })));
    await call.slash(bridgeAt, placed.hash, ...(await contradiction(system, { ...placed, key: keys[1] })));
    expect(await registry.rewardOf(prover)).to.equal(STAKE / 10n + 20n);
    expect(await registry.owed()).to.equal(STAKE / 10n + 20n);
    expect(await surplus(system)).to.equal(0n);
  });

  it("waits for stake: a proof is not used up while there is none", async () => {
    const { registry, bridgeAt, system, placed, prover, operators } = await loadFixture(fixture);
    const proof = await contradiction(system, { ...placed, key: keys[1] });
    await expect(registry.connect(prover).slash(bridgeAt, placed.hash, ...proof))
      .to.be.revertedWithCustomError(registry, "NodeRegistryNothingToSlash").withArgs(2);
    await registry.connect(operators[1]).stake(2, { value: 10n });
    await registry.connect(prover).slash(bridgeAt, placed.hash, ...proof);
    expect(await registry.rewardOf(prover)).to.equal(1n);
  });

  it("serves every bridge that names the registry", async () => {
    const { registry, system, owner, prover } = await loadFixture(fixture);
    const second = await ethers.deployContract("ComputeBridge", [registry, MIN_TTL, MAX_TTL, CANCEL_DELAY, owner]);
    const at = await second.getAddress();
    const hash = repeated("ab", 32);
    const proof = await contradiction(system, { hash, domain: bridgeDomain(CHAIN_ID, at) });
    await registry.connect(prover).slash(at, hash, ...proof);
    expect(await registry.isProven(keys[0])).to.equal(true);
  });

  describe("refuses", () => {
    it("one outcome signed twice, with other receipts or for other relayers", async () => {
      const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
      const first = await signed(system, YES, placed);
      const again = await attest(keys[0], system.domain, placed.hash, YES, anchorFor(system, 2, system.owner.address));
      await expect(registry.slash(bridgeAt, placed.hash, first, { ...again, outcomeHash: outcomeHash(YES) }))
        .to.be.revertedWithCustomError(registry, "NodeRegistryNoContradiction").withArgs(outcomeHash(YES));
    });

    it("two nodes that disagree, be they one operator's", async () => {
      const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
      for (const index of [1, 3]) {
        await expect(registry.slash(bridgeAt, placed.hash, ...(await contradiction(system, placed, { key: keys[index] }))))
          .to.be.revertedWithCustomError(registry, "NodeRegistryDifferentSigners")
          .withArgs(keys[0].address, keys[index].address);
      }
    });

    it("two keys of one node that disagree: a new key's ledger does not know what the old one signed", async () => {
      const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
      const next = await rotate(system, 1, 1n);
      await expect(registry.slash(bridgeAt, placed.hash, ...(await contradiction(system, placed, { key: next }))))
        .to.be.revertedWithCustomError(registry, "NodeRegistryDifferentSigners")
        .withArgs(keys[0].address, next.address);
    });

    it("a key that never joined", async () => {
      const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
      const key = new Wallet(ethers.id("nobody"));
      await expect(registry.slash(bridgeAt, placed.hash, ...(await contradiction(system, { ...placed, key }))))
        .to.be.revertedWithCustomError(registry, "NodeRegistryUnknownKey").withArgs(key.address);
    });

    const foreign: [string, (system: System) => Promise<string>][] = [
      ["an account", async ({ curator }) => curator.address],
      ["the registry itself", async ({ registry }) => registry.getAddress()],
      ["a bridge of another registry", async ({ owner }) => {
        const other = await ethers.deployContract("NodeRegistry", [NOTICE, UNBONDING]);
        const parameters = [other, MIN_TTL, MAX_TTL, CANCEL_DELAY, owner] as const;
        return (await ethers.deployContract("ComputeBridge", [...parameters])).getAddress();
      }],
      ["a contract that answers nothing", async () => naming("0x")],
      ["a contract that answers another address", async ({ curator }) => naming(ethers.zeroPadValue(curator.address, 32))],
      ["a contract that answers with dirty upper bytes", async ({ registry }) =>
        naming(`0x01${ethers.zeroPadValue(await registry.getAddress(), 31).slice(2)}`)],
      ["a contract that answers two words", async ({ registry }) =>
        naming(`${ethers.zeroPadValue(await registry.getAddress(), 32)}${ZeroHash.slice(2)}`)],
    ];
    const naming = async (answer: string) => (await ethers.deployContract("NamingBridge", [answer])).getAddress();
    for (const [what, at] of foreign) {
      it(`what was signed for ${what}`, async () => {
        const { registry, system, placed } = await loadFixture(fixture);
        const bridge = await at(system);
        const proof = await contradiction(system, { ...placed, domain: bridgeDomain(CHAIN_ID, bridge) });
        await expect(registry.slash(bridge, placed.hash, ...proof))
          .to.be.revertedWithCustomError(registry, "NodeRegistryForeignBridge").withArgs(bridge);
      });
    }

    it("what was signed for the bridge as signed for a contract that an attacker made", async () => {
      const { registry, system, placed } = await loadFixture(fixture);
      const invented = await naming(ethers.zeroPadValue(await registry.getAddress(), 32));
      await expect(registry.slash(invented, placed.hash, ...(await contradiction(system, placed))))
        .to.be.revertedWithCustomError(registry, "NodeRegistryDifferentSigners");
      // One of them for each is no contradiction either: a node answers every bridge's request once.
      const mixed = await contradiction(system, placed, { domain: bridgeDomain(CHAIN_ID, invented) });
      for (const bridge of [invented, system.bridgeAt]) {
        await expect(registry.slash(bridge, placed.hash, ...mixed))
          .to.be.revertedWithCustomError(registry, "NodeRegistryDifferentSigners");
      }
    });

    const changed: [string, (system: System) => Partial<Domain>][] = [
      ["another chain", () => ({ chainId: 314n })],
      ["another name", () => ({ name: "InsulaNodeRegistry" })],
      ["another version", () => ({ version: "2" })],
    ];
    for (const [what, change] of changed) {
      it(`what was signed for ${what}`, async () => {
        const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
        const proof = await contradiction(system, { ...placed, domain: { ...system.domain, ...change(system) } });
        await expect(registry.slash(bridgeAt, placed.hash, ...proof))
          .to.be.revertedWithCustomError(registry, "NodeRegistryDifferentSigners");
      });
    }

    it("what was signed about two requests", async () => {
      const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
      const other = await place(system, placed.order);
      for (const hash of [placed.hash, other.hash]) {
        await expect(registry.slash(bridgeAt, hash, ...(await contradiction(system, placed, { hash: other.hash }))))
          .to.be.revertedWithCustomError(registry, "NodeRegistryDifferentSigners");
      }
    });

    const altered: [string, object][] = [
      ["outcome", { outcomeHash: repeated("99", 32) }],
      ["receipt hash", { receiptHash: repeated("99", 32) }],
      ["log root", { logRoot: repeated("99", 32) }],
      ["log size", { logSize: 99n }],
      ["relayer", { relayer: BURNT_FUNDS }],
    ];
    for (const [what, change] of altered) {
      it(`an altered ${what}`, async () => {
        const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
        const [yes, no] = await contradiction(system, placed);
        await expect(registry.slash(bridgeAt, placed.hash, yes, { ...no, ...change }))
          .to.be.revertedWithCustomError(registry, "NodeRegistryDifferentSigners");
      });
    }

    const malformed: [string, (good: Signature) => string][] = [
      ["a high s", (good) =>
        ethers.concat([good.r, ethers.toBeHex(CURVE_ORDER - BigInt(good.s), 32), ethers.toBeHex(good.v === 27 ? 28 : 27)])],
      ["64 bytes", (good) => good.compactSerialized],
      ["66 bytes", (good) => `${good.serialized}00`],
      ["no bytes", () => "0x"],
    ];
    for (const [what, change] of malformed) {
      it(`signatures of ${what}`, async () => {
        const { registry, bridgeAt, system, placed } = await loadFixture(fixture);
        const [yes, no] = (await contradiction(system, placed)).map((one) => ({
          ...one,
          signature: change(Signature.from(one.signature)),
        }));
        await expect(registry.slash(bridgeAt, placed.hash, yes, no))
          .to.be.revertedWithCustomError(registry, "NodeRegistryUnknownKey").withArgs(ZeroAddress);
      });
    }
  });

  describe("withdrawReward", () => {
    async function proven() {
      const made = await fixture();
      const prover = await ethers.deployContract("ReentrantReceiver");
      const call = made.registry.interface.encodeFunctionData(
        "slash", [made.bridgeAt, made.placed.hash, ...(await contradiction(made.system, made.placed))],
      );
      await prover.act(made.registryAt, call);
      const draw = (to: string) =>
        prover.act(made.registryAt, made.registry.interface.encodeFunctionData("withdrawReward", [to]));
      return { ...made, prover, proverAt: await prover.getAddress(), draw };
    }

    it("sends the prover's reward, once", async () => {
      const { registry, system, curator, proverAt, draw } = await loadFixture(proven);
      const reward = STAKE / 10n;
      const drawn = draw(curator.address);
      await expect(drawn).to.emit(registry, "RewardWithdrawn").withArgs(proverAt, curator.address, reward);
      await expect(drawn).to.changeEtherBalance(ethers, curator, reward);
      expect(await registry.rewardOf(proverAt)).to.equal(0n);
      expect(await registry.owed()).to.equal(0n);
      expect(await surplus(system)).to.equal(0n);
      await expect(draw(curator.address))
        .to.be.revertedWithCustomError(registry, "NodeRegistryNoReward").withArgs(proverAt);
    });

    it("loses nothing when the receiver refuses, or is zero", async () => {
      const { registry, bridgeAt, proverAt, draw } = await loadFixture(proven);
      for (const to of [bridgeAt, ZeroAddress]) {
        await expect(draw(to))
          .to.be.revertedWithCustomError(registry, "NodeRegistryTransferFailed").withArgs(to, STAKE / 10n);
      }
      expect(await registry.rewardOf(proverAt)).to.equal(STAKE / 10n);
    });

    it("cannot be entered twice at once", async () => {
      const { registry, registryAt, prover, proverAt, draw, system } = await loadFixture(proven);
      await prover.setCall(registryAt, registry.interface.encodeFunctionData("withdrawReward", [proverAt]));
      await draw(proverAt);
      expect(await prover.innerReturned()).to.equal(ethers.id("ReentrancyGuardReentrantCall()").slice(0, 10));
      expect(await ethers.provider.getBalance(proverAt)).to.equal(STAKE / 10n);
      expect(await surplus(system)).to.equal(0n);
    });
  });
});

describe("NodeRegistry: attesterOf", () => {
  it("says for a key what activeNodeOfKey and carries say", async () => {
    const { registry, curator, operators, stranger } = await loadFixture(fixture);
    const rows: [string, string, string[], unknown[]][] = [
      [keys[0].address, curator.address, [], [1n, operators[0].address, true]],
      [keys[0].address, curator.address, [ethers.id("none")], [1n, operators[0].address, false]],
      [keys[1].address, curator.address, [ethers.id("gpu=yes")], [2n, operators[1].address, true]],
      [keys[4].address, curator.address, [], [5n, stranger.address, false]],
      [keys[4].address, ZeroAddress, [], [5n, stranger.address, true]],
      [ethers.computeAddress(ethers.id("nobody")), ZeroAddress, [], [0n, ZeroAddress, false]],
      [ZeroAddress, ZeroAddress, [], [0n, ZeroAddress, false]],
    ];
    for (const [key, by, labels, expected] of rows) {
      expect(await registry.attesterOf(key, by, labels)).to.deep.equal(expected);
    }
  });

  it("counts a key that joins a node under notice until the notice is over, and again once it is back", async () => {
    const { registry, system } = await loadFixture(fixture);
    await registry.deactivate(1);
    const effectiveAt = (await latest()) + NOTICE;
    const key = await rotate(system, 1, 1n);
    const nodeOf = async (one: BaseWallet) => (await registry.attesterOf(one.address, ZeroAddress, [])).nodeId;
    await time.increaseTo(effectiveAt - 1n);
    expect([await nodeOf(key), await nodeOf(keys[0])]).to.deep.equal([1n, 0n]);
    await time.increaseTo(effectiveAt);
    expect([await nodeOf(key), await nodeOf(keys[0])]).to.deep.equal([0n, 0n]);
    await registry.reactivate(1);
    expect([await nodeOf(key), await nodeOf(keys[0])]).to.deep.equal([1n, 0n]);
  });

  it("knows a node that left and came back before it had a key", async () => {
    const { registry, system, operators } = await loadFixture(fixture);
    await registry.register([], "");
    const nodeId = await registry.nodeCount();
    await registry.deactivate(nodeId);
    await registry.reactivate(nodeId);
    const key = await rotate({ ...system, operators: Array(Number(nodeId)).fill(operators[0]) }, Number(nodeId), 0n);
    expect(await registry.activeNodeOfKey(key)).to.deep.equal([nodeId, operators[0].address]);
  });
});
