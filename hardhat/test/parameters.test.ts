/** Ignition's parameters of each network are ones that the contracts take, on a chain with FEVM's gas limit. */
import { readFileSync } from "node:fs";

import { expect } from "chai";
import { network } from "hardhat";

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../ignition/parameters/${name}.json`, import.meta.url), "utf8"), (_, value) =>
    // how such a file writes large numbers
    typeof value === "string" && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value);

describe("Ignition's parameters", () => {
  for (const name of ["localhost", "calibration", "mainnet"]) {
    it(`of ${name} are accepted`, async () => {
      const { ethers } = await network.create({ network: "devnet", override: { mining: { auto: true, interval: 0 } } });
      const [owner, curator] = await ethers.getSigners();
      const { Insula, LilypadV0 } = read(name);
      const registry = await ethers.deployContract("NodeRegistry", [Insula.notice, Insula.unbonding]);
      const times = [Insula.minTtl, Insula.maxTtl, Insula.cancelDelay] as const;
      const bridge = await ethers.deployContract("ComputeBridge", [registry, ...times, owner]);
      const { curator: named, ...terms } = LilypadV0;
      const v0 = await ethers.deployContract("LilypadV0", [bridge, curator, terms]);
      expect(await v0.getLilypadFee()).to.equal(LilypadV0.fee);
      if (name === "localhost") return;
      expect(named).to.match(/^FILL-IN/);
      // A node that leaves still counts for every request that was open when it said so.
      expect(Insula.notice).to.be.at.least(Insula.maxTtl);
    });
  }
});
