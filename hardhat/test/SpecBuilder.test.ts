/** What SpecBuilder builds is JSON that says what was asked and nothing else, whatever bytes the texts hold. */
import { readFileSync } from "node:fs";

import { expect } from "chai";

import { deployed, ethers, loadFixture } from "./helpers/fixture.ts";
import { sortedLabels } from "./helpers/wire.ts";
import { RandomText } from "./helpers/texts.ts";

const MODULE = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
const INPUT = "bafkreieiavj7zkh45kkogjpoft5urznjqxghs7zzufgmnu6o33h6wkxe2i";
const IMAGE = `sha256:${"ab".repeat(32)}`;
const NOTHING = {
  module: "", image: "", archive: "", entrypoint: [], workdir: "", gvisor: false, args: [], env: [], inputs: [],
  limits: [], limitValues: [], labels: [], requirements: [],
};
const pair = (name: string, value: string) => ({ name, value });
const text = (hexBytes: string) => Buffer.from(hexBytes.slice(2), "hex").toString("utf8");

async function fixture() {
  const system = await deployed();
  const harness = await ethers.deployContract("ClientHarness", [system.bridgeAt]);
  const build = async (parts: object) => {
    const [json, labels] = await harness.build({ ...NOTHING, ...parts });
    return { value: JSON.parse(text(json)), labels: [...labels], json: text(json) };
  };
  /** ABI-encodes bytes that no JavaScript string can be. */
  const quoteBytes = (bytes: string) => {
    const data = ethers.AbiCoder.defaultAbiCoder().encode(["bytes"], [bytes]).slice(2);
    return ethers.provider.call({ to: harness, data: harness.interface.getFunction("jsonString").selector + data });
  };
  return { harness, build, quoteBytes };
}

describe("SpecBuilder", () => {
  it("builds the smallest spec", async () => {
    const { build } = await loadFixture(fixture);
    expect((await build({ module: MODULE })).json).to.equal(
      `{"version":"insula/v1","engine":{"type":"wasm","module":"${MODULE}"}}`);
  });

  it("builds every part of a WASM job", async () => {
    const { build } = await loadFixture(fixture);
    const { value, labels } = await build({
      module: MODULE, args: ["--top", "10"], env: [pair("LEVEL", "info"), pair("_a1", "")],
      inputs: [pair(INPUT, "/inputs/a"), pair(INPUT, "/inputs/b")],
      limits: [0, 3, 0, 6], limitValues: [20, 0, 30, 8],
      labels: [pair("site", "ap"), pair("gpu", "yes"), pair("a", "")], requirements: ["!spot", "cores>4"],
    });
    expect(value).to.deep.equal({
      version: "insula/v1",
      engine: { type: "wasm", module: MODULE, args: ["--top", "10"], env: { LEVEL: "info", _a1: "" } },
      inputs: [{ cid: INPUT, path: "/inputs/a" }, { cid: INPUT, path: "/inputs/b" }],
      limits: { wallSeconds: 30, diskBytes: 0, pids: 8 },
      selector: "site=ap,gpu=yes,a=,!spot,cores>4",
    });
    expect(labels).to.deep.equal(sortedLabels("site=ap", "gpu=yes", "a="));
  });

  it("builds a spec of exactly 16 KiB", async () => {
    const { build } = await loadFixture(fixture);
    const args = ["x", "x", "x", "x", "x"].map((letter) => letter.repeat(3200));
    const { json } = await build({ module: MODULE, args });
    args[4] += "x".repeat(16_384 - json.length);
    expect((await build({ module: MODULE, args })).json).to.have.lengthOf(16_384);
  });

  it("builds every part of a container job", async () => {
    const { build } = await loadFixture(fixture);
    const parts = { image: IMAGE, archive: INPUT, entrypoint: ["/bin/sh", '"'], workdir: "/w", gvisor: true };
    expect((await build(parts)).value.engine).to.deep.equal(
      { type: "docker", image: IMAGE, archive: INPUT, entrypoint: ["/bin/sh", '"'], workdir: "/w", tier: "gvisor" });
  });

  it("knows every limit by its name", async () => {
    const { build } = await loadFixture(fixture);
    const { value } = await build({ module: MODULE, limits: [0, 1, 2, 3, 4, 5, 6], limitValues: [1, 2, 3, 4, 5, 6, 7] });
    expect(value.limits).to.deep.equal(
      { wallSeconds: 1, cpuMillis: 2, memoryBytes: 3, diskBytes: 4, outputFiles: 5, logBytes: 6, pids: 7 });
  });

  describe("keeps a text one string:", () => {
    const rows: [string, string][] = [
      ["a quotation mark", '"'],
      ["a key smuggled in", '"],"image":"evil","x":["'],
      ["a backslash before the end", "\\"],
      ["an escape of its own", '\\u0022,\\"'],
      ["every control character but NUL", String.fromCharCode(...Array.from({ length: 31 }, (_, i) => i + 1))],
      ["DEL and what JSON leaves alone", "\u007f\u2028\u2029/<>&"],
      ["two, three and four byte characters", "é€😀\u{10ffff}"],
      ["a quotation mark behind 31 plain bytes", `${"a".repeat(31)}"${"b".repeat(40)}`],
      ["a character across the border of a word", `${"a".repeat(31)}€${"b".repeat(30)}é`],
      ["nothing", ""],
      ["4096 bytes, each escaped", "\u0001".repeat(2048) + '"'.repeat(2048)],
    ];
    for (const [what, value] of rows) {
      it(what, async () => {
        const { harness, build } = await loadFixture(fixture);
        const quoted = await harness.jsonString(value);
        expect(JSON.parse(text(quoted))).to.equal(value);
        if (value.length > 2000) return;
        const built = (await build({ module: MODULE, args: [value], env: [pair("A", value)] })).value;
        expect(built.engine).to.deep.equal({ type: "wasm", module: MODULE, args: [value], env: { A: value } });
      });
    }
  });

  it("keeps 300 random texts as they are, and 300 pieces of broken UTF-8 out", async () => {
    const { harness, quoteBytes } = await loadFixture(fixture);
    const random = new RandomText("insula");
    for (let i = 0; i < 300; ++i) {
      const value = random.text(random.below(120));
      expect(JSON.parse(text(await harness.jsonString(value))), `text ${i}`).to.equal(value);
      const bytes = random.bytes(1 + random.below(60));
      const strict = random.decode(bytes);
      const refused = await quoteBytes(ethers.hexlify(bytes)).then(() => false, () => true);
      expect(refused, `bytes ${i}: ${ethers.hexlify(bytes)}`).to.equal(strict === undefined || strict.includes("\0"));
    }
  });

  it("builds the specs that the Python side's strict parser is tested with", async () => {
    const { harness } = await loadFixture(fixture);
    const path = new URL("../../tests/vectors/specs.json", import.meta.url);
    const vectors = JSON.parse(readFileSync(path, "utf8"));
    expect(vectors.length).to.equal(40);
    for (const { parts, spec, labels } of vectors) {
      const [json, hashes] = await harness.build(parts);
      expect(text(json)).to.equal(spec);
      expect([...hashes]).to.deep.equal(labels);
    }
  });

  describe("refuses bytes that are no UTF-8, and says where they are:", () => {
    const rows: [string, string, number][] = [
      ["a continuation byte alone", "0x6180", 1],
      ["an overlong slash", "0xc0af", 0],
      ["an overlong three byte form", "0xe09fbf", 0],
      ["an overlong four byte form", "0xf08fbfbf", 0],
      ["a surrogate", "0xeda080", 0],
      ["beyond U+10FFFF", "0xf4908080", 0],
      ["a byte that no sequence begins with", "0xff", 0],
      ["a sequence that the end cuts", "0x61e282", 1],
      ["a sequence cut by a letter", "0xc361", 0],
      ["a four byte form whose last byte is a letter", "0xf09f9861", 0],
      ["an address", `0x41ff${"c0".repeat(18)}`, 1],
      ["a bad byte behind 40 good ones", `0x${"61".repeat(40)}fe`, 40],
    ];
    for (const [what, bytes, index] of rows) {
      it(what, async () => {
        const { harness, quoteBytes } = await loadFixture(fixture);
        await expect(quoteBytes(bytes))
          .to.be.revertedWithCustomError(harness, "JsonStringInvalidUtf8").withArgs(index);
      });
    }
  });

  it("accepts the first and the last character of each length", async () => {
    const { harness } = await loadFixture(fixture);
    const edges = "\u0080\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}\u{ffff}\u{3ffff}";
    expect(JSON.parse(text(await harness.jsonString(edges)))).to.equal(edges);
  });

  it("refuses NUL, which no program can be given", async () => {
    const { harness } = await loadFixture(fixture);
    await expect(harness.jsonString("a\0")).to.be.revertedWithCustomError(harness, "JsonStringNul").withArgs(1);
  });

  describe("refuses what nodes would refuse, before anyone paid:", () => {
    const many = (count: number) => Array.from({ length: count }, (_, i) => i);
    const rows: [string, object, string][] = [
      ["65 arguments", { args: many(65).map(String) }, "args"],
      ["an argument of 4097 bytes", { args: ["x".repeat(4097)] }, "args"],
      ["65 variables", { env: many(65).map((i) => pair(`A${i}`, "")) }, "env"],
      ["a variable given twice", { env: [pair("A", "1"), pair("B", ""), pair("A", "2")] }, "env"],
      ["a variable without a name", { env: [pair("", "")] }, "env"],
      ["a name that begins with a digit", { env: [pair("1A", "")] }, "env"],
      ["a name with a quotation mark", { env: [pair('A"', "")] }, "env"],
      ["a name of 129 bytes", { env: [pair("A".repeat(129), "")] }, "env"],
      ["a value of 4097 bytes", { env: [pair("A", "x".repeat(4097))] }, "env"],
      ["17 inputs", { inputs: many(17).map((i) => pair(INPUT, `/inputs/${i}`)) }, "inputs"],
      ["a limit beyond 64 bits", { limits: [0], limitValues: [2n ** 64n] }, "limits"],
      ["nine labels", { labels: many(9).map((i) => pair(`a${i}`, "")) }, "labels"],
      ["a label given twice", { labels: [pair("a", "b"), pair("c", "d"), pair("a", "b")] }, "labels"],
      ["a label with a comma", { labels: [pair("a", "b,c=d")] }, "labels"],
      ["an empty requirement", { requirements: [""] }, "selector"],
      ["a selector of 4097 bytes", { requirements: ["x".repeat(4097)] }, "selector"],
      ["more than 16 KiB", { args: many(5).map(() => "x".repeat(4000)) }, "spec"],
      ["an archive for a module", { archive: INPUT }, "archive"],
      ["an entry point for a module", { entrypoint: ["x"] }, "entrypoint"],
      ["65 words of an entry point", { module: "", image: IMAGE, entrypoint: many(65).map(String) }, "entrypoint"],
      ["a work directory for a module", { workdir: "/" }, "workdir"],
      ["gVisor for a module", { gvisor: true }, "tier"],
    ];
    for (const [what, parts, field] of rows) {
      it(what, async () => {
        const { harness, build } = await loadFixture(fixture);
        await expect(build({ module: MODULE, ...parts }))
          .to.be.revertedWithCustomError(harness, "SpecBuilderInvalid").withArgs(field);
      });
    }

    it("an archive given twice", async () => {
      const { harness } = await loadFixture(fixture);
      await expect(harness.archiveTwice(INPUT))
        .to.be.revertedWithCustomError(harness, "SpecBuilderInvalid").withArgs("archive");
    });

    it("but not the largest of each", async () => {
      const { build } = await loadFixture(fixture);
      const name = "A".repeat(128);
      const { value, labels } = await build({
        module: MODULE, args: many(64).map(String), env: [...many(63).map((i) => pair(`E${i}`, "x")), pair(name, "y")],
        inputs: many(16).map((i) => pair(INPUT, `/inputs/${i}`)), limits: [4], limitValues: [2n ** 64n - 1n],
        labels: many(8).map((i) => pair(`a${i}`, "z")),
      });
      expect(value.engine.args.length + Object.keys(value.engine.env).length + value.inputs.length).to.equal(144);
      expect(labels).to.deep.equal(sortedLabels(...many(8).map((i) => `a${i}=z`)));
    });
  });
});
