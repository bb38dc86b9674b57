/**
 * Writes what Slither reads of a Hardhat build into a folder: the syntax trees of all contracts but the mocks, as they are in the
 * checkout now. No code is generated, so it takes seconds, and no older build can be taken for this one.
 *
 *   node --import tsx scripts/export-asts.ts FOLDER
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { contractSources, loadCompiler, ROOT, withImports } from "./sources.ts";

const NO_CODE = { object: "", sourceMap: "" };

const folder = process.argv[2];
if (!folder) throw new Error("name the folder to write into");
const named = {};
for (const source of contractSources().values()) {
  if (!source.startsWith("contracts/mocks/")) withImports(source, ROOT, named);
}
// Slither tells dependencies by their folder.
const sources = Object.fromEntries(
  Object.entries<{ content: string }>(named).map(([name, source]) => [name.replace(/^@/, "node_modules/@"), source]),
);
const settings = {
  evmVersion: "cancun",
  remappings: ["@openzeppelin/=node_modules/@openzeppelin/"],
  optimizer: { enabled: true },
  outputSelection: { "*": { "": ["ast"], "*": ["abi"] } },
};
const output = loadCompiler()(sources, settings);
for (const contract of Object.values<Record<string, object>>(output.contracts).flatMap((file) => Object.values(file))) {
  Object.assign(contract, { evm: { bytecode: NO_CODE, deployedBytecode: NO_CODE } });
}
const into = join(folder, "artifacts/build-info");
mkdirSync(into, { recursive: true });
writeFileSync(join(into, "all.json"), JSON.stringify({ solcVersion: "0.8.28", input: { language: "Solidity", settings } }));
writeFileSync(join(into, "all.output.json"), JSON.stringify({ output }));
