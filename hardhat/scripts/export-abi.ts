/**
 * Writes bridge/chain/abi/NAME.json, which the Python side loads and can deploy without Node.
 *
 * sourceSha256 is what `sha256sum` would print, so that anyone can recompute it without this script:
 *
 *   cd contracts
 *   find . -name '*.sol' ! -path './mocks/*' ! -name '*.t.sol' | sed 's#^./##' | LC_ALL=C sort \
 *     | xargs sha256sum | sha256sum
 *
 * that is: sha256 over the lines "<sha256 of the file, hex>  <path relative to contracts/, with />\n", sorted by the
 * path's bytes. tests/unit/test_abi_drift.py does the same in Python.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { artifacts } from "hardhat";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const CONTRACTS = join(ROOT, "contracts");
const TARGET = join(ROOT, "bridge/chain/abi");
const EXPORTED = ["ComputeBridge", "ComputeLens", "LilypadCaller", "LilypadV0", "NodeRegistry", "ResultBook"];

const sha256 = (data: string | Buffer) => createHash("sha256").update(data).digest("hex");

function sourceSha256(): string {
  const lines = readdirSync(CONTRACTS, { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".sol") && !path.endsWith(".t.sol") && !path.startsWith("mocks/"))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map((path) => `${sha256(readFileSync(join(CONTRACTS, path)))}  ${path}\n`);
  return sha256(lines.join(""));
}

/** Keys sorted at every depth: the same contract always gives the same file. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

const source = sourceSha256();
mkdirSync(TARGET, { recursive: true });
for (const contractName of EXPORTED) {
  const artifact = await artifacts.readArtifact(contractName);
  const buildInfoId = await artifacts.getBuildInfoId(contractName);
  const buildInfoPath = buildInfoId && (await artifacts.getBuildInfoPath(buildInfoId));
  if (!buildInfoPath) throw new Error(`no build info for ${contractName}: run hardhat build`);
  const { input, solcLongVersion } = JSON.parse(readFileSync(buildInfoPath, "utf8"));
  const { optimizer, viaIR, evmVersion } = input.settings;
  const exported = {
    contractName,
    abi: artifact.abi,
    bytecode: artifact.bytecode,
    deployedBytecode: artifact.deployedBytecode,
    compiler: solcLongVersion,
    settings: { optimizer, viaIR, evmVersion },
    sourceSha256: source,
  };
  writeFileSync(join(TARGET, `${contractName}.json`), `${JSON.stringify(sorted(exported), null, 2)}\n`);
}
