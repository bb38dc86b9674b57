import { fileURLToPath } from "node:url";

import hardhatToolboxMochaEthers from "@nomicfoundation/hardhat-toolbox-mocha-ethers";
import { configVariable, defineConfig, overrideTask } from "hardhat/config";
import type { HttpNetworkUserConfig } from "hardhat/types/config";

import insulaTasks from "./tasks/index.ts";

const compiler = {
  version: "0.8.28",
  // npm's compiler: pinned by package-lock.json, never downloaded.
  path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
  settings: {
    optimizer: { enabled: true, runs: 100000 },
    viaIR: true,
    // FEVM has MCOPY and TSTORE; its missing blob opcodes are kept out by tests/unit/test_abi_drift.py.
    evmVersion: "cancun",
  },
};

// A FEVM epoch takes 30 s, and a message is executed one or two epochs after it was sent.
const fevm = (name: string, chainId: number): HttpNetworkUserConfig => ({
  type: "http",
  chainId,
  url: configVariable(`INSULA_${name}_URL`),
  // From Hardhat's keystore (`npx hardhat keystore set ...`) or the environment, never from a file here.
  accounts: [configVariable(`INSULA_${name}_DEPLOYER_KEY`)],
  timeout: 60_000,
  ignition: { maxRetries: 20, retryInterval: 15_000 },
});

export default defineConfig({
  plugins: [hardhatToolboxMochaEthers],
  tasks: [
    ...insulaTasks,
    overrideTask(["test", "solidity"]).setAction(async () => import("./tasks/solidity-tests.ts")).build(),
  ],
  // Ignition builds with the profile "production": the same code, so that what is deployed is what is checked in.
  solidity: { profiles: { default: compiler, production: { ...compiler, isolated: false } } },
  paths: { tests: { mocha: "./test", solidity: "./test" } },
  test: {
    mocha: { timeout: 20_000 },
    solidity: {
      // The seed of all random tests, printed with their results; another one: FUZZ_SEED=0x...
      fuzz: { runs: 256, seed: process.env.FUZZ_SEED ?? "0x696e73756c61" },
      invariant: { runs: Number(process.env.INVARIANT_RUNS ?? 256), depth: 500, failOnRevert: true },
    },
  },
  coverage: { skipFiles: ["contracts/mocks/**"] },
  ignition: { blockPollingInterval: 1_000, timeBeforeBumpingFees: 10 * 60_000, requiredConfirmations: 5 },
  networks: {
    // Where tests and scripts run: no opcode newer than FEVM's. The gas limit is Hardhat's own; `--coverage` takes away one
    // that nobody named, and orders are held against it.
    default: { type: "edr-simulated", hardfork: "cancun", blockGasLimit: 60_000_000n },
    // FEVM's chain id (local networks), gas limit and opcodes; a block every second, empty ones too.
    devnet: {
      type: "edr-simulated",
      chainId: 31415926,
      hardfork: "cancun",
      blockGasLimit: 10_000_000_000n,
      allowBlocksWithSameTimestamp: false,
      mining: { auto: false, interval: 1000 },
    },
    localhost: { type: "http", url: process.env.INSULA_LOCALHOST_URL ?? "http://127.0.0.1:8545" },
    calibration: fevm("CALIBRATION", 314159),
    mainnet: fevm("MAINNET", 314),
  },
});
