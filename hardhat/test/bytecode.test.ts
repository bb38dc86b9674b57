/** Every contract that can be deployed fits the code limit and runs on FEVM. */
import { expect } from "chai";
import { dataLength, getBytes } from "ethers";
import { artifacts } from "hardhat";

const CODE_LIMIT = 24_576; // bytes: EIP-170, and FEVM's MAX_CODE_SIZE
// BLOBHASH and BLOBBASEFEE (EIP-4844, EIP-7516) and CALLCODE are missing in FEVM.
const MISSING_ON_FEVM = [0x49, 0x4a, 0xf2];
const [PUSH0, PUSH1, PUSH32] = [0x5f, 0x60, 0x7f];

/** The opcodes of runtime bytecode: PUSH data is skipped, and so is the metadata tail with its length. */
function opcodes(code: Uint8Array): Set<number> {
  const found = new Set<number>();
  const end = code.length - 2 - (code[code.length - 2] * 256 + code[code.length - 1]);
  for (let at = 0; at < end; ++at) {
    found.add(code[at]);
    if (code[at] >= PUSH1 && code[at] <= PUSH32) at += code[at] - PUSH0;
  }
  return found;
}

async function deployable(): Promise<Map<string, string>> {
  const names = [...(await artifacts.getAllFullyQualifiedNames())].filter((name) => /^contracts\/(?!mocks\/)/.test(name));
  const found = new Map<string, string>();
  for (const name of names) {
    const { abi, deployedBytecode } = await artifacts.readArtifact(name);
    // Libraries and interfaces have no ABI that is called, or no code: they are part of the contracts that use them.
    if (deployedBytecode !== "0x" && abi.some(({ type }: { type: string }) => type === "function")) found.set(name, deployedBytecode);
  }
  return found;
}

describe("the bytecode", () => {
  it("is that of everything that is deployed: the contracts, the lens, LilypadV0 and the examples", async () => {
    const names = [...(await deployable()).keys()].map((name) => name.split(":")[1]).sort();
    expect(names).to.deep.equal([
      "ComputeBridge", "ComputeLens", "ImageMint", "LilypadCaller", "LilypadV0", "NodeRegistry", "QuorumReading", "ResultBook",
      "VotingTally",
    ]);
  });

  it("fits the code limit and has no opcode that FEVM lacks", async () => {
    for (const [name, code] of await deployable()) {
      expect(dataLength(code), name).to.be.within(1, CODE_LIMIT);
      const used = opcodes(getBytes(code));
      expect(MISSING_ON_FEVM.filter((opcode) => used.has(opcode)), name).to.deep.equal([]);
    }
  });
});
