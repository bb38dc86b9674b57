import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { HardhatPluginError } from "hardhat/plugins";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

import { deploymentPath, type KnownDeployment, print } from "./connect.ts";

interface Options {
  deployments: string;
  deploymentId: string | undefined;
}

/** CHAINID.json: the addresses, and the block in which the bridge was created. */
export default async function ({ deployments, deploymentId }: Options, hre: HardhatRuntimeEnvironment) {
  const { ethers } = await hre.network.create();
  const { chainId } = await ethers.provider.getNetwork();
  const folder = join(hre.config.paths.ignition, "deployments", deploymentId ?? `chain-${chainId}`);
  const deployed: Record<string, string> = JSON.parse(readFileSync(join(folder, "deployed_addresses.json"), "utf8"));
  // Ignition's names are MODULE#CONTRACT.
  const contracts = Object.fromEntries(Object.entries(deployed).map(([future, address]) => [future.split("#")[1], address]));
  const known: KnownDeployment = { chainId: Number(chainId), deployBlock: deployBlock(join(folder, "journal.jsonl")), contracts };
  const target = deploymentPath(hre.config.paths.root, deployments, chainId);
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, `${JSON.stringify(known, null, 2)}\n`);
  print({ written: target, ...known });
}

function deployBlock(journal: string): number {
  const entries = readFileSync(journal, "utf8").trim().split("\n").map((line) => JSON.parse(line));
  const confirmed = entries.find(({ type, futureId }) => type === "TRANSACTION_CONFIRM" && futureId === "Insula#ComputeBridge");
  if (!confirmed) throw new HardhatPluginError("insula", `${journal} does not tell the block of Insula#ComputeBridge: is the deployment complete?`);
  return Number(confirmed.receipt.blockNumber);
}
