/**
 * Measures which lines and statements of the contracts the TypeScript tests run, and fails where it is less than 98 % of any file.
 *
 *   npm run coverage                                   ./dev coverage-contracts
 *   npm run coverage -- --quiet                        without what the tests say, unless one fails
 *
 * The report by lines is in coverage/html afterwards. Left out are the mocks (hardhat.config.ts), the Solidity tests, which add
 * nothing but time, and three test files: Gas.test.ts, because counting costs gas, bytecode.test.ts, because it adds code, and
 * package.test.ts, which runs no contract.
 */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { contractSources, HARDHAT, ROOT } from "./sources.ts";

const AT_LEAST = 98;
const LEFT_OUT = ["Gas.test.ts", "bytecode.test.ts", "package.test.ts"];
const QUIET = process.argv.includes("--quiet");
const ROW = /^║ (contracts\/\S+\.sol) +│ ([\d.]+) +│ ([\d.]+) +│/gm;

/** Runs the tests, passes on what they print if it is wanted, and gives back their exit code and all that they printed. */
async function measure(): Promise<[code: number | null, output: string]> {
  const tests = readdirSync(join(HARDHAT, "test")).filter((name) => name.endsWith(".test.ts") && !LEFT_OUT.includes(name));
  const hardhat = ["node_modules/hardhat/dist/src/cli.js", "--config", "coverage.config.ts"];
  const argv = [...hardhat, "test", "mocha", "--coverage", ...tests.map((name) => join("test", name))];
  const child = spawn(process.execPath, argv, { cwd: HARDHAT, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    if (!QUIET) process.stdout.write(text);
  });
  return new Promise((resolve) => child.on("close", (code) => resolve([code, output])));
}

/** Sources with code to run: interfaces have none. */
function expected(): string[] {
  const hasCode = (source: string) => /^(contract|library) /m.test(readFileSync(join(ROOT, source), "utf8"));
  return [...contractSources().values()].filter((source) => !source.startsWith("contracts/mocks/") && hasCode(source));
}

const [code, output] = await measure();
const rows = new Map([...output.matchAll(ROW)].map(([, path, lines, statements]) => [path, [Number(lines), Number(statements)]]));
const faults = [...rows]
  .filter(([, [lines, statements]]) => !(lines >= AT_LEAST && statements >= AT_LEAST))
  .map(([path, [lines, statements]]) => `${path}: ${lines} % of the lines, ${statements} % of the statements`);
faults.push(...expected().filter((path) => !rows.has(path)).map((path) => `${path}: not measured`));
if (code !== 0) faults.push(`the tests ended with ${code}`);
if (faults.length !== 0 && QUIET) console.error(output);
for (const fault of faults) console.error(`coverage: ${fault}`);
if (faults.length === 0) console.log(`coverage: at least ${AT_LEAST} % of lines and statements in each of ${rows.size} files`);
process.exitCode = faults.length === 0 ? 0 : 1;
