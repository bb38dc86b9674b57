/**
 * Mutation test of the contracts: each entry of mutations.json takes one rule away, and the tests that it names must notice.
 *
 *   npm run mutate                                     all of them (./dev mutate)
 *   npm run mutate -- --only PayerRefunds --jobs 1     those with this in their file's path or their reason, one at a time
 *   npm run mutate -- --sample 10                      every n-th, so that about ten run
 *   npm run mutate -- --from 100                       those from the 100th on: to go on where a run was stopped
 *
 * An entry: `file` below contracts/, `text` that stands there exactly once, what stands there `instead`, `why` that matters,
 * the `tests` below test/ that must fail, and `builds`: the contract whose code changes, where it is not the file's own. What
 * no test could notice stands under `equivalent`, with the reason, and is not run.
 * Nothing of the checkout is changed: each worker has a copy of its own, compiles there the one contract that matters, writes its code
 * into the copied artifacts, and runs the tests up to the first that fails. Without via-IR where a contract compiles that way:
 * that takes a fifth of the time, and the tests have to pass with that code first.
 */
import { type ChildProcess, execFileSync, fork, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { contractSources, HARDHAT, loadCompiler, ROOT, withImports } from "./sources.ts";

interface Mutation {
  file: string;
  text: string;
  instead: string;
  why: string;
  tests: string[];
  builds?: string;
}

/** A unit of work: a mutation, or, where `mutation` is missing, the unchanged contract with all tests that are named for it. */
interface Task {
  name: string;
  builds: string;
  tests: string[];
  mutation?: Mutation;
}

type Verdict = "caught" | "survived" | "invalid";
interface Report {
  verdict: Verdict;
  detail: string;
}

const CLI = join(HARDHAT, "node_modules/hardhat/dist/src/cli.js");
const TEST_SECONDS = 300;
const FEW_STEPS = "dhfoDgvulfnTUtnIf : ";
// The project's configuration, which stops at the first failure and knows larger code: without via-IR it is longer.
const CONFIG = `import base from "./hardhat.config.ts";
const { default: network, ...networks } = base.networks!;
export default {
  ...base,
  networks: { ...networks, default: { ...network, allowUnlimitedContractSize: true } },
  test: { ...base.test, mocha: { ...base.test!.mocha, bail: true } },
};
`;

const contractOf = (mutation: Mutation) => mutation.builds ?? basename(mutation.file, ".sol");

class Workshop {
  readonly #root = mkdtempSync(join(tmpdir(), "insula-mutants-"));
  readonly #hardhat = join(this.#root, "hardhat");
  readonly #sources = contractSources();
  readonly #needsIr = new Set<string>();
  readonly #compile = loadCompiler();

  constructor() {
    mkdirSync(this.#hardhat);
    cpSync(join(ROOT, "contracts"), join(this.#root, "contracts"), { recursive: true });
    for (const name of ["hardhat.config.ts", "package.json", "tsconfig.json", "test", "tasks", "ignition", "artifacts"]) {
      cpSync(join(HARDHAT, name), join(this.#hardhat, name), { recursive: true });
    }
    symlinkSync("../contracts", join(this.#hardhat, "contracts"));
    symlinkSync(join(HARDHAT, "node_modules"), join(this.#hardhat, "node_modules"));
    for (const name of ["tests", "bridge"]) symlinkSync(join(ROOT, name), join(this.#root, name));
    writeFileSync(join(this.#hardhat, "mutants.config.ts"), CONFIG);
  }

  close(): void {
    rmSync(this.#root, { recursive: true });
  }

  run({ builds, tests, mutation }: Task): Report {
    const path = mutation && join(this.#root, "contracts", mutation.file);
    const original = path && readFileSync(path, "utf8");
    if (path && original) writeFileSync(path, original.replace(mutation.text, () => mutation.instead));
    try {
      const fault = this.#build(builds);
      return fault ? { verdict: "invalid", detail: fault } : this.#test(tests);
    } finally {
      if (path && original) writeFileSync(path, original);
    }
  }

  /** Puts the contract's code into the artifacts, or says why there is none. */
  #build(contract: string): string | undefined {
    const source = this.#sources.get(contract);
    if (!source) return `no contract ${contract}`;
    let code: object;
    try {
      code = this.#codeOf(source, contract, this.#needsIr.has(contract));
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      if (this.#needsIr.has(contract) || !error.message.includes("Stack too deep")) return error.message;
      this.#needsIr.add(contract);
      return this.#build(contract);
    }
    const path = join(this.#hardhat, "artifacts", source, `${contract}.json`);
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...code }));
    return undefined;
  }

  #codeOf(source: string, contract: string, viaIR: boolean): object {
    const { contracts } = this.#compile(withImports(source, this.#root), {
      // With via-IR, a few of the optimizer's steps: enough to fit the stack and the code limit, in a third of the time.
      optimizer: { enabled: true, runs: 100000, ...(viaIR ? { details: { yulDetails: { optimizerSteps: FEW_STEPS } } } : {}) },
      viaIR,
      evmVersion: "cancun",
      outputSelection: { [source]: { [contract]: ["evm.bytecode.object", "evm.deployedBytecode.object"] } },
    });
    const { bytecode, deployedBytecode } = contracts[source][contract].evm;
    return { bytecode: `0x${bytecode.object}`, deployedBytecode: `0x${deployedBytecode.object}` };
  }

  #test(tests: string[]): Report {
    const files = tests.map((name) => join("test", name));
    const argv = [CLI, "--config", "mutants.config.ts", "test", "mocha", "--no-compile", ...files];
    const options = { cwd: this.#hardhat, encoding: "utf8", timeout: TEST_SECONDS * 1000 } as const;
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, argv, options);
    if (signal !== null) return { verdict: "caught", detail: `no end in ${TEST_SECONDS} s` };
    if (status === 0) return { verdict: "survived", detail: "" };
    const failed = /^ {2}1\) ([\s\S]*?):\n/m.exec(stdout);
    if (!failed) return { verdict: "invalid", detail: `${stdout}${stderr}`.slice(-2000) };
    return { verdict: "caught", detail: failed[1].replaceAll(/\s+/g, " ") };
  }
}

function work(): void {
  const workshop = new Workshop();
  process.on("message", (task: Task | null) => {
    if (task) {
      process.send!(workshop.run(task));
      return;
    }
    workshop.close();
    process.disconnect();
  });
  process.send!(null);
}

function tasksOf(mutations: Mutation[]): Task[] {
  const named = new Map<string, Set<string>>();
  for (const mutation of mutations) {
    const tests = named.get(contractOf(mutation)) ?? new Set();
    for (const test of mutation.tests) tests.add(test);
    named.set(contractOf(mutation), tests);
  }
  const unchanged = [...named].map(([builds, tests]) => ({ name: `${builds}, unchanged`, builds, tests: [...tests] }));
  const changed = mutations.map((mutation) => ({
    name: `${mutation.file}: ${mutation.why}`,
    builds: contractOf(mutation),
    tests: mutation.tests,
    mutation,
  }));
  return [...unchanged, ...changed];
}

function checkTexts(mutations: Mutation[]): void {
  for (const { file, text } of mutations) {
    const count = readFileSync(join(ROOT, "contracts", file), "utf8").split(text).length - 1;
    if (count !== 1) throw new Error(`mutations.json: ${JSON.stringify(text)} stands ${count} times in contracts/${file}, not once`);
  }
}

/** Gives each worker the next task as soon as it is free. */
async function runAll(tasks: Task[], jobs: number): Promise<[Task, Report][]> {
  const reports: [Task, Report][] = [];
  const waiting = [...tasks];
  const ofOneWorker = () =>
    new Promise<void>((resolve, reject) => {
      const worker: ChildProcess = fork(fileURLToPath(import.meta.url), ["--worker"]);
      let current: Task | undefined;
      worker.on("message", (report: Report | null) => {
        if (report && current) {
          reports.push([current, report]);
          const expected = current.mutation ? "caught" : "survived";
          const word = report.verdict === expected ? "ok" : report.verdict.toUpperCase();
          console.log(`${reports.length}/${tasks.length} ${word}  ${current.name}${report.detail ? `  [${report.detail}]` : ""}`);
        }
        current = waiting.shift();
        worker.send((current ?? null) as object);
      });
      worker.on("error", reject);
      worker.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`a worker ended with ${code}`))));
    });
  await Promise.all(Array.from({ length: jobs }, ofOneWorker));
  return reports;
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { only: text, from: text, jobs: text, sample: text } });
  const all: Mutation[] = JSON.parse(readFileSync(join(HARDHAT, "mutations.json"), "utf8")).mutations;
  checkTexts(all);
  const wanted = all.filter(({ file, why }) => `${file}: ${why}`.includes(values.only ?? "")).slice(Number(values.from ?? 1) - 1);
  const step = values.sample ? Math.max(1, Math.floor(wanted.length / Number(values.sample))) : 1;
  const mutations = wanted.filter((_, index) => index % step === 0);
  if (mutations.length === 0) throw new Error("no mutation is like that");
  // The artifacts of what is in the checkout, which the workers copy.
  execFileSync(process.execPath, [CLI, "build", "--no-tests"], { cwd: HARDHAT, stdio: ["ignore", "ignore", "inherit"] });
  const reports = await runAll(tasksOf(mutations), Number(values.jobs ?? 2));
  const wrong = reports.filter(([{ mutation }, { verdict }]) => verdict !== (mutation ? "caught" : "survived"));
  console.log(`${mutations.length} mutations, ${wrong.length} not as they should be`);
  for (const [{ name, mutation }, { verdict }] of wrong) {
    console.log(`  ${verdict}: ${name}${mutation ? `\n    - ${mutation.text}\n    + ${mutation.instead}` : ""}`);
  }
  process.exitCode = wrong.length === 0 ? 0 : 1;
}

if (process.argv.includes("--worker")) work();
else await main();
