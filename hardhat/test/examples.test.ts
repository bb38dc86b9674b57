/** The three worked examples of contracts/README.md, each from the order to the last of its money. */
import { expect } from "chai";

import {
  deployed, ethers, lastPlaced, loadFixture, NATIVE, type Placed, settle, surplus, type System, time,
} from "./helpers/fixture.ts";
import { CID, hex, labelHash, makeOutcome, Status } from "./helpers/wire.ts";

const MODULE = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
const DATA = "bafkreieiavj7zkh45kkogjpoft5urznjqxghs7zzufgmnu6o33h6wkxe2i";
const UNIT = 1_000n;

const specOf = (placed: Placed) => JSON.parse(Buffer.from(placed.order.spec.slice(2), "hex").toString());

async function expired(system: System, placed: Placed) {
  await time.increase(3601);
  await system.bridge.expire(placed.id, placed.order);
}

describe("VotingTally", () => {
  const Count = { Unknown: 0n, Counting: 1n, Carried: 2n, Rejected: 3n, NotCounted: 4n };

  async function fixture() {
    const system = await deployed();
    const tally = await ethers.deployContract("VotingTally", [system.bridgeAt, system.curator.address, MODULE]);
    await tally.count(DATA, UNIT, { value: await tally.price(DATA, UNIT) });
    return { ...system, system, tally, placed: await lastPlaced(system) };
  }

  it("orders a count of the ballots, with standard output as the result", async () => {
    const { tally, placed, curator } = await loadFixture(fixture);
    expect(await tally.price(DATA, UNIT)).to.equal(UNIT);
    expect(specOf(placed)).to.deep.equal({
      version: "insula/v1",
      engine: { type: "wasm", module: MODULE, args: ["/inputs/ballots"] },
      inputs: [{ cid: DATA, path: "/inputs/ballots" }],
    });
    expect([placed.order.resultKind, placed.order.curator]).to.deep.equal([1, curator.address]);
    expect(await tally.countOf(placed.id)).to.deep.equal([Count.Counting, 0n, 0n]);
  });

  const rows: [string, string, object, bigint, [bigint, bigint]][] = [
    ["more ayes", "7 5\n", {}, Count.Carried, [7n, 5n]],
    ["a tie", "5 5\n", {}, Count.Rejected, [5n, 5n]],
    ["nothing that is a count", "yes!\n", {}, Count.NotCounted, [0n, 0n]],
    ["numbers, but failed", "7 5\n", { status: Status.Failed, reason: 200, exitCode: 1 }, Count.NotCounted, [0n, 0n]],
  ];
  for (const [what, stdout, change, outcome, [yes, no]] of rows) {
    it(`reads ${what}`, async () => {
      const { system, tally, placed } = await loadFixture(fixture);
      await expect(settle(system, placed, makeOutcome({ payload: hex(stdout), ...change }), [1]))
        .to.emit(tally, "Counted").withArgs(placed.id, outcome, yes, no);
      expect(await tally.countOf(placed.id)).to.deep.equal([outcome, yes, no]);
    });
  }

  it("lets its owner alone order and collect", async () => {
    const { system, tally, placed, owner, stranger } = await loadFixture(fixture);
    await expired(system, placed);
    for (const call of [tally.connect(stranger).count(DATA, 0n), tally.connect(stranger).collect(stranger)]) {
      await expect(call).to.be.revertedWithCustomError(tally, "OwnableUnauthorizedAccount").withArgs(stranger.address);
    }
    await expect(tally.connect(owner).collect(stranger)).to.changeEtherBalance(ethers, stranger, UNIT);
  });
});

describe("ImageMint", () => {
  const IMAGE = `sha256:${"ab".repeat(32)}`;
  const PROMPT = 'a "cat", \\ and a\n🐈';

  async function fixture() {
    const system = await deployed();
    const parameters = [system.bridgeAt, system.curator.address, IMAGE, UNIT, 60_000n] as const;
    const mint = await ethers.deployContract("ImageMint", [...parameters]);
    const painter = system.requester;
    await expect(mint.connect(painter).paint(PROMPT, { value: UNIT }))
      .to.emit(mint, "Ordered").withArgs(1n, painter.address, PROMPT);
    return { ...system, system, mint, painter, placed: await lastPlaced(system) };
  }

  it("orders an image of any words, from a node with the label", async () => {
    const { placed } = await loadFixture(fixture);
    expect(specOf(placed)).to.deep.equal({
      version: "insula/v1", engine: { type: "docker", image: IMAGE, args: [PROMPT] }, selector: "gpu=yes",
    });
    expect(placed.order.labels).to.deep.equal([labelHash("gpu=yes")]);
  });

  it("mints the result to whoever ordered it", async () => {
    const { system, mint, painter, placed } = await loadFixture(fixture);
    await expect(mint.tokenURI(placed.id)).to.be.revertedWithCustomError(mint, "ERC721NonexistentToken").withArgs(1n);
    await expect(settle(system, placed, makeOutcome(), [1]))
      .to.emit(mint, "Transfer").withArgs(ethers.ZeroAddress, painter.address, placed.id);
    expect(await mint.ownerOf(placed.id)).to.equal(painter.address);
    expect(await mint.tokenURI(placed.id)).to.match(/^ipfs:\/\/bafkrei[a-z2-7]{52}\/outputs\/image\.png$/);
    expect(await mint.owedRefunds()).to.equal(0n);
    await expect(mint.pushRefund(painter)).to.be.revertedWithCustomError(mint, "PayerRefundsNothingOwed").withArgs(painter.address);
  });

  for (const [what, status, reason] of [["refused", Status.Refused, 101], ["failed", Status.Failed, 200], ["withheld", Status.Withheld, 300]] as const) {
    it(`gives the price back where the job was ${what}, by anyone's push`, async () => {
      const { system, mint, painter, stranger, placed } = await loadFixture(fixture);
      await expect(settle(system, placed, makeOutcome({ status, reason, outputCid: "0x" }), [1]))
        .to.emit(mint, "NotPainted").withArgs(placed.id, status, reason)
        .and.to.emit(mint, "RefundBooked").withArgs(painter.address, placed.id, UNIT);
      expect([await mint.refundOf(painter), await mint.owedRefunds()]).to.deep.equal([UNIT, UNIT]);
      const push = mint.connect(stranger).pushRefund(painter);
      await expect(push).to.changeEtherBalance(ethers, painter, UNIT);
      await expect(push).to.emit(mint, "RefundPushed").withArgs(painter.address, UNIT, true);
      expect([await mint.refundOf(painter), await mint.owedRefunds()]).to.deep.equal([0n, 0n]);
    });
  }

  it("gives the price back where nobody answered", async () => {
    const { system, mint, painter, placed } = await loadFixture(fixture);
    await expect(mint.refundExpired(placed.id)).to.be.revertedWithCustomError(mint, "ImageMintNotExpired").withArgs(placed.id);
    await expired(system, placed);
    await expect(mint.refundExpired(placed.id)).to.changeEtherBalance(ethers, painter, UNIT);
    await expect(mint.refundExpired(placed.id)).to.be.revertedWithCustomError(mint, "ImageMintNotExpired").withArgs(placed.id);
    expect(await surplus(system)).to.equal(0n);
  });

  it("takes money from the bridge only", async () => {
    const { mint, stranger } = await loadFixture(fixture);
    await expect(stranger.sendTransaction({ to: mint, value: 1n }))
      .to.be.revertedWithCustomError(mint, "PayerRefundsNotBridge").withArgs(stranger.address);
  });
});

describe("QuorumReading", () => {
  async function fixture() {
    const system = await deployed();
    const book = await ethers.deployContract("QuorumReading", [system.bridgeAt, system.curator.address, MODULE]);
    const take = async () => {
      await book.take(DATA, UNIT, 10n, { value: 3n * UNIT + 10n });
      return lastPlaced(system);
    };
    return { ...system, system, book, take };
  }
  const said = (stdout: string) => makeOutcome({ payload: hex(stdout), outputCid: CID });

  it("believes two of three; the third, who says otherwise, is neither believed nor paid", async () => {
    const { bridge, system, book, take, operators, stranger } = await loadFixture(fixture);
    const placed = await take();
    expect([placed.order.nodes, placed.order.quorum]).to.deep.equal([3, 2]);
    await expect(settle(system, placed, said("999\n"), [3]))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeTooFewAttestations").withArgs(1, 2);
    await expect(settle(system, placed, said("42\n"), [1, 2])).to.emit(book, "ReadingTaken").withArgs(placed.id, 42n);
    expect(await book.reading()).to.deep.equal([42n, placed.id]);
    const credits = await Promise.all(operators.slice(0, 3).map((operator) => bridge.creditOf(operator, NATIVE)));
    expect(credits).to.deep.equal([UNIT, UNIT, 0n]);
    await expect(book.collect(stranger)).to.changeEtherBalance(ethers, stranger, UNIT);
  });

  it("counts no operator twice", async () => {
    const { bridge, system, take, operators } = await loadFixture(fixture);
    const placed = await take();
    await expect(settle(system, placed, said("42\n"), [1, 4]))
      .to.be.revertedWithCustomError(bridge, "ComputeBridgeDuplicateOperator").withArgs(1, operators[0].address);
  });

  it("keeps the newest reading where results come in another order", async () => {
    const { system, book, take } = await loadFixture(fixture);
    const [older, newer] = [await take(), await take()];
    await settle(system, newer, said("2\n"), [1, 2]);
    await settle(system, older, said("1\n"), [1, 3]);
    expect(await book.reading()).to.deep.equal([2n, newer.id]);
  });

  it("misses a reading that is no number, or failed", async () => {
    const { system, book, take } = await loadFixture(fixture);
    const [first, second] = [await take(), await take()];
    await expect(settle(system, first, said("4 2\n"), [1, 2])).to.emit(book, "ReadingMissed").withArgs(first.id, 1, 0);
    const failed = makeOutcome({ status: Status.Failed, reason: 201, payload: hex("42\n") });
    await expect(settle(system, second, failed, [1, 2])).to.emit(book, "ReadingMissed").withArgs(second.id, 2, 201);
    expect(await book.reading()).to.deep.equal([0n, 0n]);
  });

  it("lets its owner alone order and collect", async () => {
    const { book, stranger } = await loadFixture(fixture);
    for (const call of [book.connect(stranger).take(DATA, 0n, 0n), book.connect(stranger).collect(stranger)]) {
      await expect(call).to.be.revertedWithCustomError(book, "OwnableUnauthorizedAccount").withArgs(stranger.address);
    }
  });
});
