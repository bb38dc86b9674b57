import { HardhatPluginError } from "hardhat/plugins";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

import { connect, print } from "./connect.ts";
import { type OrderOptions, orderOf } from "./order.ts";

export default async function (options: OrderOptions, hre: HardhatRuntimeEnvironment) {
  const order = orderOf(options);
  const { bridge, address } = await connect(hre, options);
  const price = await bridge.quote(order);
  const sent = await bridge.requestJob(order, { value: price });
  const receipt = await sent.wait();
  const logs = receipt?.logs.filter((log) => log.address === address).map((log) => bridge.interface.parseLog(log)) ?? [];
  const requested = logs.find((log) => log?.name === "JobRequested");
  if (!requested) throw new HardhatPluginError("insula", `transaction ${sent.hash} has no JobRequested event of ${address}`);
  const { id, requestHash, deadline } = requested.args;
  print({ id, requestHash, deadline, price, transaction: sent.hash, block: receipt?.blockNumber });
}
