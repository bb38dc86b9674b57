import { expect } from "chai";
import { MaxUint256, ZeroAddress } from "ethers";

import { deployed, ethers, GPU, loadFixture, NOTICE, time } from "./helpers/fixture.ts";
import { makeOrder, priceOf } from "./helpers/wire.ts";

async function fixture() {
  const system = await deployed();
  const lens = await ethers.deployContract("ComputeLens");
  const order = makeOrder({ nodes: 3, quorum: 2, curator: system.curator.address, labels: [GPU] });
  const nodesOf = async (from = 0n, limit = MaxUint256, change = {}) => {
    const { carriers, next } = await lens.quote(system.bridge, { ...order, ...change }, from, limit);
    return [carriers.map(({ nodeId }) => nodeId), next];
  };
  return { ...system, system, lens, order, nodesOf };
}

describe("ComputeLens", () => {
  it("says what an order costs, and who could answer it", async () => {
    const { lens, bridge, order, operators } = await loadFixture(fixture);
    const found = [1, 2, 3, 4].map((nodeId) => [BigInt(nodeId), operators[nodeId - 1].address]);
    expect(await lens.quote(bridge, order, 0, 100)).to.deep.equal([priceOf(order), found, 0n]);
    const { registry, curator } = await loadFixture(fixture);
    expect(await lens.carriersOf(registry, curator, [GPU], 0, 100)).to.deep.equal([found, 0n]);
  });

  it("finds nobody where nobody carries the labels, and every active node where nobody is asked", async () => {
    const { nodesOf } = await loadFixture(fixture);
    expect(await nodesOf(0n, 100n, { labels: [ethers.id("gpu=no")] })).to.deep.equal([[], 0n]);
    expect(await nodesOf(0n, 100n, { labels: [] })).to.deep.equal([[1n, 2n, 3n, 4n], 0n]);
    expect(await nodesOf(0n, 100n, { curator: ZeroAddress })).to.deep.equal([[1n, 2n, 3n, 4n, 5n], 0n]);
  });

  it("leaves out nodes that left, that have no key, and of which the curator took his word back", async () => {
    const { nodesOf, registry, operators, curator } = await loadFixture(fixture);
    await registry.connect(operators[0]).deactivate(1);
    await registry.connect(curator).withdrawVouch(2, [GPU]);
    await registry.connect(operators[0]).register([], "");
    await registry.connect(curator).vouch(6, [GPU]);
    expect(await nodesOf()).to.deep.equal([[1n, 3n, 4n], 0n]);
    await time.increase(NOTICE);
    expect(await nodesOf()).to.deep.equal([[3n, 4n], 0n]);
  });

  const pages: [string, bigint, bigint, bigint[], bigint][] = [
    ["the first page", 0n, 2n, [1n, 2n], 3n],
    ["the same page by its first id", 1n, 2n, [1n, 2n], 3n],
    ["the second page", 3n, 2n, [3n, 4n], 5n],
    ["the last page", 5n, 2n, [], 0n],
    ["a page that ends with the last node", 4n, 2n, [4n], 0n],
    ["a page that ends before the last node", 3n, 2n, [3n, 4n], 5n],
    ["beyond the last node", 6n, 2n, [], 0n],
    ["far beyond it", MaxUint256, MaxUint256, [], 0n],
    ["no node", 2n, 0n, [], 2n],
    ["more than there are", 2n, MaxUint256, [2n, 3n, 4n], 0n],
  ];
  for (const [what, from, limit, nodeIds, next] of pages) {
    it(`looks at ${what}`, async () => {
      const { nodesOf } = await loadFixture(fixture);
      expect(await nodesOf(from, limit)).to.deep.equal([nodeIds, next]);
    });
  }

  it("looks at no more than 256 nodes at once", async () => {
    const { lens, nodesOf, registry } = await loadFixture(fixture);
    expect(await lens.MAX_PAGE()).to.equal(256n);
    for (let i = 5; i < 258; ++i) await registry.register([], "");
    expect((await nodesOf())[1]).to.equal(257n);
    expect((await nodesOf(3n))[1]).to.equal(0n);
  });

  it("refuses what requestJob would refuse", async () => {
    const { lens, bridge, order, owner } = await loadFixture(fixture);
    await expect(lens.quote(bridge, { ...order, ttl: 1 }, 0, 1))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("ttl");
    await bridge.connect(owner).pause();
    await expect(lens.quote(bridge, order, 0, 1)).to.be.revertedWithCustomError(bridge, "EnforcedPause");
  });
});
