/** The npm package of contracts/: what `npm pack` makes of it compiles in a project of its own, with plain settings. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect } from "chai";

const HARDHAT = fileURLToPath(new URL("..", import.meta.url));
const CONTRACTS = join(HARDHAT, "../contracts");
const MODULES = join(HARDHAT, "node_modules");

// No optimizer, no IR: whatever a dApp's project has set must do.
const CONFIG = `import { defineConfig } from "hardhat/config";
import { fileURLToPath } from "node:url";
export default defineConfig({
  solidity: { version: "0.8.28", path: fileURLToPath(import.meta.resolve("solc/soljson.js")) },
});
`;
const HEADER = "// SPDX-License-Identifier: Apache-2.0\npragma solidity ^0.8.28;\n";

/** A project whose node_modules are ours, and the package in it as npm would unpack it. */
function project(): string {
  const root = mkdtempSync(join(tmpdir(), "insula-package-"));
  const modules = join(root, "node_modules");
  mkdirSync(join(modules, "@insula/contracts"), { recursive: true });
  for (const name of readdirSync(MODULES).filter((name) => !name.startsWith("."))) {
    // Hardhat takes Solidity from real folders only.
    if (name === "@openzeppelin") cpSync(join(MODULES, name), join(modules, name), { recursive: true });
    else symlinkSync(join(MODULES, name), join(modules, name));
  }
  const npm = ["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", root];
  const tarball = execFileSync("npm", npm, { cwd: CONTRACTS, encoding: "utf8" }).trim();
  execFileSync("tar", ["-xzf", join(root, tarball), "-C", join(modules, "@insula/contracts"), "--strip-components=1"]);
  writeFileSync(join(root, "package.json"), '{"name": "dapp", "version": "1.0.0", "type": "module"}');
  writeFileSync(join(root, "hardhat.config.ts"), CONFIG);
  mkdirSync(join(root, "contracts"));
  return root;
}

/** Hardhat tells its children which configuration it runs with; this one is to find its own. */
function build(root: string): string {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("HARDHAT_"));
  const hardhat = [join(root, "node_modules/hardhat/dist/src/cli.js"), "build"];
  return execFileSync(process.execPath, hardhat, { cwd: root, encoding: "utf8", stdio: "pipe", env: Object.fromEntries(own) });
}

describe("the npm package @insula/contracts", function () {
  this.timeout(180_000);
  let root: string;
  before(() => {
    root = project();
  });
  after(() => rmSync(root, { recursive: true }));

  it("holds every source but the mocks", () => {
    const sources = (folder: string) =>
      readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".sol")).sort();
    const expected = sources(CONTRACTS).filter((path) => !path.startsWith("mocks"));
    expect(sources(join(root, "node_modules/@insula/contracts"))).to.deep.equal(expected);
  });

  it("holds the licence of the repository", () => {
    const text = (path: string) => readFileSync(path, "utf8");
    expect(text(join(root, "node_modules/@insula/contracts/LICENSE"))).to.equal(text(join(HARDHAT, "../LICENSE")));
  });

  it("wants the OpenZeppelin that it is tested with", () => {
    const read = (path: string) => JSON.parse(readFileSync(path, "utf8"));
    const wanted = read(join(CONTRACTS, "package.json")).dependencies["@openzeppelin/contracts"];
    expect(wanted).to.equal(`^${read(join(HARDHAT, "package.json")).devDependencies["@openzeppelin/contracts"]}`);
  });

  it("lets the dApp of its README and a caller of Lilypad compile, with plain settings", () => {
    const [, greeter] = /```solidity\n([\s\S]*?)```/.exec(readFileSync(join(CONTRACTS, "README.md"), "utf8")) ?? [];
    writeFileSync(join(root, "contracts/Greeter.sol"), HEADER + greeter);
    const caller = readFileSync(join(CONTRACTS, "examples/LilypadCaller.sol"), "utf8");
    writeFileSync(join(root, "contracts/Caller.sol"), caller.replaceAll('"../lilypad/', '"@insula/contracts/lilypad/'));
    const all = ["VotingTally", "ImageMint", "QuorumReading"].map((name) => `import "@insula/contracts/examples/${name}.sol";`);
    writeFileSync(join(root, "contracts/All.sol"), HEADER + all.join("\n"));
    build(root);
    const artifact = JSON.parse(readFileSync(join(root, "artifacts/contracts/Greeter.sol/Greeter.json"), "utf8"));
    expect(artifact.abi.map((entry: { name?: string }) => entry.name)).to.include.members(["greet", "onJobResult"]);
  });
});
