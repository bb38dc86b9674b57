/** `hardhat test solidity`, which says first what makes a run of its random tests repeatable. */
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

export default async function <Args>(
  args: Args,
  { config }: HardhatRuntimeEnvironment,
  runSuper: (args: Args) => Promise<unknown>,
): Promise<unknown> {
  const { fuzz, invariant } = config.test.solidity.profiles.default;
  const acts = `${invariant?.runs} runs of ${invariant?.depth} acts of each invariant`;
  console.log(`Fuzz seed ${fuzz.seed} (FUZZ_SEED), ${fuzz.runs} runs of each test, ${acts}`);
  return runSuper(args);
}
