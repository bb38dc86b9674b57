import { expect } from "chai";

import { deployed, ethers, loadFixture, time, NOTICE } from "./helpers/fixture.ts";
import { makeOrder, priceOf, sortedLabels } from "./helpers/wire.ts";

async function fixture() {
  const system = await deployed();
  const lens = await ethers.deployContract("QuoteLens");
  const curator = system.curator.address;
  return { ...system, lens, admitted: makeOrder({ curator, nodes: 3, quorum: 2 }) };
}

describe("QuoteLens", () => {
  it("says the price, and how many nodes of how many operators could sign", async () => {
    const { lens, bridge, admitted } = await loadFixture(fixture);
    expect(await lens.quote(bridge, admitted, 1, 1000)).to.deep.equal([priceOf(admitted), 4n, 3n]);
  });

  it("counts operators up to the nodes of the order", async () => {
    const { lens, bridge, admitted } = await loadFixture(fixture);
    expect((await lens.quote(bridge, { ...admitted, nodes: 1, quorum: 1 }, 1, 1000)).slice(1)).to.deep.equal([4n, 1n]);
  });

  it("looks at the nodes that it is told to", async () => {
    const { lens, bridge, admitted } = await loadFixture(fixture);
    expect((await lens.quote(bridge, admitted, 2, 3)).slice(1)).to.deep.equal([2n, 2n]);
    expect((await lens.quote(bridge, admitted, 6, 9)).slice(1)).to.deep.equal([0n, 0n]);
  });

  it("counts no node without the labels, none that is inactive, none without a key", async () => {
    const { lens, bridge, registry, operators, curator, admitted } = await loadFixture(fixture);
    const labels = sortedLabels("gpu=yes", "site=ap");
    expect((await lens.quote(bridge, { ...admitted, labels }, 1, 9)).matching).to.equal(0n);
    await registry.connect(curator).vouch(3, sortedLabels("site=ap"));
    expect((await lens.quote(bridge, { ...admitted, labels }, 1, 9)).slice(1)).to.deep.equal([1n, 1n]);
    await registry.connect(operators[2]).deactivate(3);
    await time.increase(NOTICE);
    expect((await lens.quote(bridge, { ...admitted, labels }, 1, 9)).matching).to.equal(0n);
    await registry.connect(operators[2]).register([], "no key yet");
    await registry.connect(curator).vouch(6, labels);
    expect((await lens.quote(bridge, { ...admitted, labels }, 1, 9)).matching).to.equal(0n);
  });

  it("refuses what the bridge refuses", async () => {
    const { lens, bridge, admitted } = await loadFixture(fixture);
    await expect(lens.quote(bridge, { ...admitted, quorum: 1 }, 1, 9))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeInvalidOrder").withArgs("quorum");
  });
});
