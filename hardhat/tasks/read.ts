import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

import { connect, print, type Where } from "./connect.ts";
import { resultOf } from "./result.ts";

export default async function (options: Where & { id: bigint }, hre: HardhatRuntimeEnvironment) {
  print(await resultOf(await connect(hre, options), options.id));
}
