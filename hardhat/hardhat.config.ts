import { fileURLToPath } from "node:url";

import hardhatToolboxMochaEthers from "@nomicfoundation/hardhat-toolbox-mocha-ethers";
import { defineConfig } from "hardhat/config";

export default defineConfig({
  plugins: [hardhatToolboxMochaEthers],
  solidity: {
    version: "0.8.28",
    // npm's compiler: pinned by package-lock.json, never downloaded.
    path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
    settings: {
      optimizer: { enabled: true, runs: 100000 },
      viaIR: true,
      // FEVM has MCOPY and TSTORE; its missing blob opcodes are kept out by tests/unit/test_abi_drift.py.
      evmVersion: "cancun",
    },
  },
  paths: { tests: { mocha: "./test", solidity: "./test" } },
  test: {
    mocha: { timeout: 20_000 },
    solidity: {
      fuzz: { runs: 256, seed: "0x696e73756c61" },
      invariant: { runs: Number(process.env.INVARIANT_RUNS ?? 256), depth: 500, failOnRevert: true },
    },
  },
  networks: {
    // Where tests and scripts run: no opcode newer than FEVM's.
    default: { type: "edr-simulated", hardfork: "cancun" },
    // FEVM's chain id (local networks), gas limit and opcodes; a block every second, empty ones too.
    devnet: {
      type: "edr-simulated",
      chainId: 31415926,
      hardfork: "cancun",
      blockGasLimit: 10_000_000_000n,
      allowBlocksWithSameTimestamp: false,
      mining: { auto: false, interval: 1000 },
    },
  },
});
