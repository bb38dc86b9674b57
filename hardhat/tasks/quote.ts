import { HardhatPluginError } from "hardhat/plugins";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

import { connect, print } from "./connect.ts";
import { addressOf, type OrderOptions, orderOf } from "./order.ts";

// Two calls each: FEVM takes millions of gas for a call, and endpoints bound an eth_call.
const NODES_A_CALL = 64n;

export default async function (options: OrderOptions & { lens: string | undefined }, hre: HardhatRuntimeEnvironment) {
  const order = orderOf(options);
  const { ethers, bridge, known } = await connect(hre, options);
  const price = await bridge.quote(order);
  const lensAt = options.lens ?? process.env.INSULA_LENS ?? known?.contracts.ComputeLens;
  if (lensAt === undefined) {
    const note = "no ComputeLens is known on this chain, give --lens or set INSULA_LENS: whether nodes match was not looked at";
    print({ price, matchingNodes: null, note });
    return;
  }
  if ((await ethers.provider.getCode(addressOf("--lens", lensAt))) === "0x") {
    throw new HardhatPluginError("insula", `--lens: there is no contract at ${lensAt}`);
  }
  const lens = await ethers.getContractAt("ComputeLens", lensAt);
  let matchingNodes = 0;
  const operators = new Set<string>();
  let next = 1n;
  do {
    const page = await lens.quote(bridge, order, next, NODES_A_CALL);
    matchingNodes += page.carriers.length;
    for (const carrier of page.carriers) operators.add(carrier.operator);
    next = page.next;
  } while (next !== 0n);
  const enough = operators.size >= Number(order.quorum);
  print({ price, matchingNodes: BigInt(matchingNodes), operators: BigInt(operators.size), quorum: order.quorum, enoughOperators: enough });
}
