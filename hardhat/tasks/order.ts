/** An order from a task's options; errors name the option. */
import { readFileSync } from "node:fs";

import { getAddress, hexlify, isAddress, keccak256, toUtf8Bytes, ZeroAddress } from "ethers";
import { HardhatPluginError } from "hardhat/plugins";

import type { Where } from "./connect.ts";

export interface OrderOptions extends Where {
  spec: string;
  curator: string;
  anyNode: boolean;
  labels: string;
  result: string;
  dialect: number;
  nodes: number;
  quorum: number;
  ttl: number;
  token: string;
  unitPrice: bigint;
  failPrice: bigint;
  deliveryFee: bigint;
  callback: string;
  callbackGas: bigint;
}

const RESULTS = ["cid", "stdout", "stderr", "exit-code"];
const LABEL = /^[a-z0-9][a-z0-9._/-]{0,62}=[A-Za-z0-9._-]{0,63}$/;

export function orderOf(options: OrderOptions) {
  const resultKind = RESULTS.indexOf(options.result);
  if (resultKind < 0) throw new HardhatPluginError("insula", `--result: ${options.result} is none of ${RESULTS.join(", ")}`);
  if (options.curator === "" && !options.anyNode) {
    throw new HardhatPluginError("insula", "--curator: name whose nodes may answer; --any-node takes every stranger's word instead");
  }
  const words = options.labels === "" ? [] : options.labels.split(",");
  for (const word of words) if (!LABEL.test(word)) throw new HardhatPluginError("insula", `--labels: ${word} is no label; give key=value`);
  if (new Set(words).size !== words.length) throw new HardhatPluginError("insula", "--labels: one of them stands twice");
  return {
    version: 1,
    dialect: options.dialect,
    specIsCid: false,
    spec: hexlify(readFileSync(options.spec)),
    resultKind,
    nodes: options.nodes,
    quorum: options.quorum === 0 ? Math.floor(options.nodes / 2) + 1 : options.quorum,
    ttl: options.ttl,
    callback: addressOf("--callback", options.callback),
    callbackGas: options.callbackGas,
    curator: addressOf("--curator", options.curator),
    labels: words.map((word) => keccak256(toUtf8Bytes(word))).sort(),
    token: addressOf("--token", options.token),
    unitPrice: options.unitPrice,
    failPrice: options.failPrice,
    deliveryFee: options.deliveryFee,
  };
}

export type TaskOrder = ReturnType<typeof orderOf>;

export function addressOf(option: string, value: string): string {
  if (value === "") return ZeroAddress;
  if (!isAddress(value)) throw new HardhatPluginError("insula", `${option}: ${value} is no address; give 0x and 40 hexadecimal digits`);
  return getAddress(value);
}
