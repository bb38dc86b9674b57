/**
 * The gas of the paths that money depends on: within their limits, and as contracts/GAS.md says.
 *
 * Left out where coverage is measured and where mutants run: their code is another.
 *
 * `GAS=write npx hardhat test test/Gas.test.ts` writes that file anew.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { expect } from "chai";
import { type ContractTransactionResponse, dataLength, Wallet } from "ethers";
import { artifacts } from "hardhat";

import {
  anchorFor,
  CHAIN_ID,
  delivery,
  deployed,
  ethers,
  keys,
  keySignature,
  loadFixture,
  NATIVE,
  place,
  type Placed,
  settle,
  time,
} from "./helpers/fixture.ts";
import { lilypad, TERMS } from "./helpers/lilypad.ts";
import { resultBook } from "./helpers/resultbook.ts";
import { attest, makeOrder, makeOutcome, outcomeHash, priceOf, repeated, requestHash, ResultKind } from "./helpers/wire.ts";

const FILE = fileURLToPath(new URL("../../contracts/GAS.md", import.meta.url));
const TOLERANCE = 150; // zero bytes in hashes and signatures, which differ with the addresses
const OUTCOME = makeOutcome();
const CODE_LIMIT = 24_576;

type Row = [path: string, gas: number, limit?: number];

const used = async (sent: Promise<ContractTransactionResponse> | ContractTransactionResponse) =>
  Number((await (await sent).wait())!.gasUsed);

async function fixture() {
  const system = await deployed();
  const client = await ethers.deployContract("GasClient", [system.bridgeAt]);
  const at = await client.getAddress();
  const change = { spec: repeated("7b", 250), curator: system.curator.address };
  const order = makeOrder({ ...change, callback: at, callbackGas: 100_000n });
  async function ordered(): Promise<[number, Placed]> {
    const gas = await used(client.order(order, { value: priceOf(order) }));
    const id = await system.bridge.requestCount();
    return [gas, { id, order, requester: at, hash: requestHash(CHAIN_ID, system.bridgeAt, id, at, order) }];
  }
  async function quorum(size: number): Promise<number> {
    const placed = await place(system, makeOrder({ ...change, nodes: size, quorum: size }));
    return used(settle(system, placed, OUTCOME, [1, 2, 3].slice(0, size)));
  }
  // Everybody has had a job and a credit before: what is measured is the rule, not the first time.
  for (let i = 0; i < 2; ++i) await settle(system, (await ordered())[1], OUTCOME, [1]);
  await quorum(3);
  return { ...system, system, client, change, ordered, quorum };
}

type Made = Awaited<ReturnType<typeof fixture>>;

async function ofTheBridge({ system, bridge, requester, change, ordered, quorum }: Made): Promise<Row[]> {
  const [request, placed] = await ordered();
  const result = await used(settle(system, placed, OUTCOME, [1]));
  expect((await bridge.requestOf(placed.id)).callbackFailed).to.equal(false);
  const entries = [];
  for (let i = 0; i < 50; ++i) entries.push(await delivery(system, await place(system, makeOrder(change)), OUTCOME, [1]));
  const batch = Math.round((await used(bridge.fulfilMany(entries))) / entries.length);
  const [one, two, three] = [await quorum(1), await quorum(2), await quorum(3)];
  const late = await place(system, makeOrder({ ...change, ttl: 60 }));
  await time.increase(61);
  const expired = await used(bridge.expire(late.id, late.order));
  const withdrawn = await used(bridge.connect(requester).withdraw(NATIVE, requester));
  return [
    ["a request by a client contract", request, 120_000],
    ["a result with a callback that stores the CID", result, 165_000],
    ["a result without a callback", one],
    ["the second signature of a quorum", two - one, 22_000],
    ["the third signature of a quorum", three - two, 22_000],
    ["one of a batch of 50 results without callbacks", batch, 47_000],
    ["`expire`", expired],
    ["`withdraw`, native", withdrawn],
  ];
}

async function inAToken({ system, bridge, bridgeAt, requester, operators, change }: Made): Promise<Row[]> {
  const token = await ethers.deployContract("HostileToken");
  const at = await token.getAddress();
  await token.mint(requester, 10n ** 12n);
  await token.connect(requester).approve(bridgeAt, 10n ** 12n);
  const order = makeOrder({ ...change, token: at });
  const gas = [];
  for (let i = 0; i < 2; ++i) gas.push(await used(bridge.connect(requester).requestJob(order)));
  const id = await bridge.requestCount();
  const hash = requestHash(CHAIN_ID, bridgeAt, id, requester.address, order);
  await settle(system, { id, order, hash, requester: requester.address }, OUTCOME, [1]);
  const withdrawn = await used(bridge.connect(operators[0]).withdraw(at, operators[0]));
  return [["a request in an ERC-20, by an account", gas[1]], ["`withdraw`, ERC-20", withdrawn]];
}

async function ofTheRegistry({ system, registry, bridgeAt, operators, domain }: Made): Promise<Row[]> {
  const mine = registry.connect(operators[0]);
  const staked = await used(mine.stake(1, { value: 1000n }));
  const unstaked = await used(mine.unstake(1, 10n));
  const placed = await place(system, makeOrder());
  const proof = await Promise.all([OUTCOME, makeOutcome({ reason: 1 })].map(async (outcome) => ({
    outcomeHash: outcomeHash(outcome),
    ...(await attest(keys[0], domain, placed.hash, outcome, anchorFor(system, 1))),
  })));
  const slashed = await used(registry.slash(bridgeAt, placed.hash, proof[0], proof[1]));
  return [["`stake`, the first time", staked], ["`unstake`", unstaked], ["`slash`", slashed]];
}

async function sizes(): Promise<Row[]> {
  const names = ["ComputeBridge", "NodeRegistry", "ComputeLens"];
  return Promise.all(names.map(async (name): Promise<Row> => {
    const { deployedBytecode } = await artifacts.readArtifact(name);
    return [`\`${name}\``, dataLength(deployedBytecode), CODE_LIMIT];
  }));
}

function table(head: string, rows: Row[]): string[] {
  const cells = rows.map(([path, value, limit]) => `| ${path} | ${value} | ${limit ?? ""} |`);
  return [`| ${head} | measured | at most |`, "|---|---|---|", ...cells, ""];
}

function page(gas: Row[], bytes: Row[]): string {
  return [
    "# Gas",
    "",
    "Written by `hardhat/test/Gas.test.ts`, which also compares it: `GAS=write npx hardhat test test/Gas.test.ts` in `hardhat/` writes it",
    "anew. EVM prices; FEVM charges more. A 250-byte inline spec, no labels but a curator's admission, a CIDv1 result, a quorum of",
    "1 unless it says otherwise; everybody has had a job and a credit before.",
    "",
    ...table("path", gas),
    "Measured in the same way, for comparison:",
    "",
    "| | request | result with callback |",
    "|---|---|---|",
    "| Lilypad v0 | 310 531 | 382 367 |",
    "| Infernet, unpaid / paid (no signature check) | 314 362 / 354 806 | 161 143 / 211 933 |",
    "| Chainlink Operator (32-byte answer) | 135 352 | 109 972 |",
    "| a minimal contract: 2 slots, 1 signature, 3 slots | 87 719 | 118 268 |",
    "",
    ...table("runtime code, bytes", bytes),
  ].join("\n");
}

const numbersOf = (text: string) => [...text.matchAll(/\| (\d+) \|/g)].map(([, digits]) => Number(digits));
const wordsOf = (text: string) => text.replace(/\d+/g, "#");

describe("gas", () => {
  it("is within its limits, and as contracts/GAS.md says", async () => {
    const made = await loadFixture(fixture);
    const gas = [...(await ofTheBridge(made)), ...(await inAToken(made)), ...(await ofTheRegistry(made))];
    const bytes = await sizes();
    for (const [path, value, limit] of [...gas, ...bytes]) {
      if (limit !== undefined) expect(value, path).to.be.at.most(limit);
    }
    const text = page(gas, bytes);
    if (process.env.GAS === "write") writeFileSync(FILE, text);
    const checkedIn = readFileSync(FILE, "utf8");
    const hint = "contracts/GAS.md is out of date: GAS=write npx hardhat test test/Gas.test.ts";
    expect(wordsOf(checkedIn), hint).to.equal(wordsOf(text));
    const [now, before] = [numbersOf(text), numbersOf(checkedIn)];
    for (const [index, value] of now.entries()) expect(value, hint).to.be.closeTo(before[index], TOLERANCE);
  });

  it("of a caller's 1 000th job is that of the 10th", async () => {
    const { ordered } = await loadFixture(fixture);
    const gas: number[] = [];
    while (gas.length < 1000) gas.push((await ordered())[0]);
    expect(gas[999]).to.be.closeTo(gas[9], TOLERANCE);
  }).timeout(120_000);

  it("of the sixteenth signature is within the limit of the second", async () => {
    const { system, registry, curator } = await loadFixture(fixture);
    const signers = await ethers.getSigners();
    const made = [];
    for (let n = 0; n < 16; ++n) {
      const key = new Wallet(ethers.id(`sixteen ${n}`));
      const operator = signers[n];
      await registry.connect(operator).register([], "");
      const nodeId = await registry.nodeCount();
      const signature = await keySignature(key, await registry.getAddress(), operator.address, nodeId, 0n);
      await registry.connect(operator).joinKey(nodeId, key.address, signature);
      await registry.connect(curator).vouch(nodeId, [await registry.ADMITTED()]);
      made.push(key);
    }
    const gas: number[] = [];
    for (const size of [16, 15, 16]) {
      const placed = await place(system, makeOrder({ nodes: size, quorum: size, curator: curator.address }));
      const signed = await Promise.all(made.slice(0, size).map((key, n) =>
        attest(key, system.domain, placed.hash, OUTCOME, anchorFor(system, n))));
      gas.push(await used(system.bridge.fulfil(placed.id, placed.order, OUTCOME, signed)));
    }
    expect(gas[2] - gas[1]).to.be.at.most(22_000);
  });

  it("of ResultBook is at most 125 000 to order, 240 000 for two nodes' word and a stored CID", async () => {
    const { bridge, book, system, ordered } = await loadFixture(resultBook);
    const first = await ordered(ResultKind.Cid);
    await settle(system, first, makeOutcome(), [1, 2]);
    const placed = await ordered(ResultKind.Cid);
    const [requested] = await bridge.queryFilter(bridge.filters.JobRequested(placed.id));
    expect((await requested.getTransactionReceipt()).gasUsed).to.be.lessThan(125_000n);
    const settled = await settle(system, placed, makeOutcome(), [1, 2]);
    expect((await settled.wait())?.gasUsed).to.be.lessThan(240_000n);
    expect((await book.resultOf(placed.id)).status).to.equal(1n);
  });

  it("of LilypadV0 is at most 215 000 for a job of 250 bytes, 257 000 for a CID that the caller stores", async () => {
    const { v0, caller, run, end } = await loadFixture(lilypad);
    await run(0, TERMS.fee, "x".repeat(250));
    const { placed } = await run(0, TERMS.fee, "x".repeat(250));
    const [, second] = await v0.queryFilter(v0.filters.NewLilypadJobSubmitted());
    expect((await second.getTransactionReceipt()).gasUsed).to.be.lessThan(215_000n);
    expect((await (await end(placed, makeOutcome())).wait())?.gasUsed).to.be.lessThan(257_000n);
    expect(await caller.results(2)).to.match(/^bafkrei/);
  });
});
