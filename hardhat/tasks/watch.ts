import { setTimeout } from "node:timers/promises";

import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

import { connect, print, type Where } from "./connect.ts";
import { isFinal, resultOf, stateOf } from "./result.ts";

type WatchOptions = Where & { id: bigint; timeout: number; poll: number };

/** State is polled, never an event waited for: what happened before the watch began counts too. */
export default async function (options: WatchOptions, hre: HardhatRuntimeEnvironment) {
  const connection = await connect(hre, options);
  const until = Date.now() + options.timeout * 1000;
  while (!isFinal((await stateOf(connection, options.id)).state)) {
    if (Date.now() >= until) {
      print(await resultOf(connection, options.id));
      process.exitCode = 2;
      return;
    }
    await setTimeout(options.poll * 1000);
  }
  print(await resultOf(connection, options.id));
}
