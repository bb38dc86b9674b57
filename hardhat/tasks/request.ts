import { Contract, ZeroAddress } from "ethers";
import { HardhatPluginError } from "hardhat/plugins";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

import { connect, type Ethers, print } from "./connect.ts";
import { type OrderOptions, orderOf } from "./order.ts";

export default async function (options: OrderOptions, hre: HardhatRuntimeEnvironment) {
  const order = orderOf(options);
  const { ethers, bridge, address } = await connect(hre, options);
  const price = await bridge.quote(order);
  const isNative = order.token === ZeroAddress;
  if (!isNative) await letTake(ethers, order.token, address, price);
  const sent = await bridge.requestJob(order, { value: isNative ? price : 0n });
  const receipt = await sent.wait();
  const logs = receipt?.logs.filter((log) => log.address === address).map((log) => bridge.interface.parseLog(log)) ?? [];
  const requested = logs.find((log) => log?.name === "JobRequested");
  if (!requested) throw new HardhatPluginError("insula", `transaction ${sent.hash} has no JobRequested event of ${address}`);
  const { id, requestHash, deadline } = requested.args;
  print({ id, requestHash, deadline, price, transaction: sent.hash, block: receipt?.blockNumber });
}

const ERC20 = [
  "function allowance(address owner, address spender) view returns (uint256)",
  "function approve(address spender, uint256 amount) returns (bool)",
];

/** Lets the bridge take exactly the price, unless it may take as much already. */
async function letTake(ethers: Ethers, at: string, spender: string, price: bigint): Promise<void> {
  const [owner] = await ethers.getSigners();
  const token = new Contract(at, ERC20, owner);
  const before: bigint = await token.allowance(owner.address, spender);
  if (before >= price) return;
  // Some tokens change an allowance only from zero.
  if (before !== 0n) await (await token.approve(spender, 0n)).wait();
  await (await token.approve(spender, price)).wait();
}
