/**
 * Writes tests/vectors/specs.json: what SpecBuilder was given and what it built. The contract test builds them again, the
 * Python test reads them with the nodes' strict parser and compares with what was given.
 */
import { writeFileSync } from "node:fs";

import { network } from "hardhat";

import { RandomText } from "../test/helpers/texts.ts";

const CIDS = ["bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "bafkreieiavj7zkh45kkogjpoft5urznjqxghs7zzufgmnu6o33h6wkxe2i"];
const LIMITS = [86_400, 64_000, 68_719_476_736, 68_719_476_736, 100_000, 16_777_216, 4096];

const { ethers } = await network.create();
const registry = await ethers.deployContract("NodeRegistry", [3600, 30 * 86400]);
const harness = await ethers.deployContract("ClientHarness", [registry]);
const random = new RandomText("insula specs");

const list = <T>(most: number, item: (index: number) => T) => Array.from({ length: random.below(most + 1) }, (_, i) => item(i));

function randomParts() {
  const isWasm = random.below(2) === 0;
  const limits = list(7, (i) => i);
  return {
    module: isWasm ? CIDS[random.below(2)] : "",
    image: isWasm ? "" : `registry.example/some/name@sha256:${"0f".repeat(32)}`,
    archive: isWasm || random.below(2) ? "" : CIDS[random.below(2)],
    entrypoint: isWasm ? [] : list(3, () => random.text(20)),
    workdir: isWasm || random.below(2) ? "" : "/work dir",
    gvisor: !isWasm && random.below(2) === 0,
    args: list(5, () => random.text(random.below(90))),
    env: list(4, (i) => ({ name: `NAME_${i}`, value: random.text(random.below(60)) })),
    inputs: list(4, (i) => ({ name: CIDS[random.below(2)], value: `/inputs/${i}.dat` })),
    limits,
    limitValues: limits.map((i) => LIMITS[i]),
    labels: list(8, (i) => ({ name: `key/${i}`, value: `v${random.below(1000)}` })),
    requirements: list(1, () => "!spot"),
  };
}

const vectors = [];
for (let i = 0; i < 40; ++i) {
  const parts = randomParts();
  const [json, labels] = await harness.build(parts);
  vectors.push({ parts, spec: Buffer.from(json.slice(2), "hex").toString("utf8"), labels: [...labels] });
}
const target = new URL("../../tests/vectors/specs.json", import.meta.url);
writeFileSync(target, `${JSON.stringify(vectors, null, 1)}\n`);
