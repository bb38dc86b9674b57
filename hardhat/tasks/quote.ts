import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

import { connect, print } from "./connect.ts";
import { type OrderOptions, orderOf } from "./order.ts";

const NODES_A_CALL = 500n;

export default async function (options: OrderOptions, hre: HardhatRuntimeEnvironment) {
  const order = orderOf(options);
  const { ethers, bridge, known } = await connect(hre, options);
  const price = await bridge.quote(order);
  const lensAt = known?.contracts.QuoteLens;
  if (lensAt === undefined) {
    print({ price, matchingNodes: null, note: "no QuoteLens is known on this chain: whether nodes match was not looked at" });
    return;
  }
  const lens = await ethers.getContractAt("QuoteLens", lensAt);
  const registry = await ethers.getContractAt("NodeRegistry", await bridge.registry());
  const count = await registry.nodeCount();
  let matchingNodes = 0n;
  let operators = 0n;
  for (let first = 1n; first <= count; first += NODES_A_CALL) {
    const part = await lens.quote(bridge, order, first, first + NODES_A_CALL - 1n);
    matchingNodes += part.matching;
    // Operators of two parts may be the same ones: the larger number is certain.
    if (part.operators > operators) operators = part.operators;
  }
  const enough = operators >= BigInt(order.quorum);
  print({ price, matchingNodes, operators, quorum: order.quorum, enoughOperators: enough });
}
