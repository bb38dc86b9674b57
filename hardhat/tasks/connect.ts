/** The chain, the bridge and the printer that every task uses. */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";

import type { HardhatEthers } from "@nomicfoundation/hardhat-ethers/types";
import { getAddress, isAddress } from "ethers";
import { HardhatPluginError } from "hardhat/plugins";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

/** The names of the chain's contracts, and the block before which there is nothing to read. */
export interface KnownDeployment {
  chainId: number;
  deployBlock: number;
  contracts: Record<string, string>;
}

export interface Where {
  bridge: string | undefined;
  deployments: string;
}

export const deploymentPath = (root: string, folder: string, chainId: bigint) => resolve(root, folder, `${chainId}.json`);

export function knownDeployment(path: string): KnownDeployment | undefined {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined;
}

/** The bridge that is named, by option or by INSULA_CONTRACT, or that of the chain's known deployment. */
export async function connect(hre: HardhatRuntimeEnvironment, where: Where) {
  const { ethers } = await hre.network.create();
  const { chainId } = await ethers.provider.getNetwork();
  const found = knownDeployment(deploymentPath(hre.config.paths.root, where.deployments, chainId));
  const named = where.bridge ?? process.env.INSULA_CONTRACT ?? found?.contracts.ComputeBridge;
  if (named === undefined) {
    const advice = "give --bridge, set INSULA_CONTRACT, or deploy and run insula export-deployment";
    throw new HardhatPluginError("insula", `no deployment on chain ${chainId} is known; ${advice}`);
  }
  if (!isAddress(named)) throw new HardhatPluginError("insula", `--bridge: ${named} is no address`);
  const address = getAddress(named);
  // Of another bridge's deployment neither the block nor the names say anything.
  const known = found?.contracts.ComputeBridge === address ? found : undefined;
  const bridge = await ethers.getContractAt("ComputeBridge", address);
  if ((await ethers.provider.getCode(address)) === "0x") throw new HardhatPluginError("insula", `--bridge: there is no contract at ${address} on chain ${chainId}`);
  return { ethers, bridge, address, known, chainId };
}

export type Connection = Awaited<ReturnType<typeof connect>>;
export type Ethers = HardhatEthers;

/** JSON with amounts as strings: they do not fit a JSON number. */
export function print(value: object): void {
  console.log(JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? inner.toString() : inner), 2));
}
