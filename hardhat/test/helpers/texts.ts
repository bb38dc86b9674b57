/** Random texts and bytes from a seed: SHA-256 in counter mode, the same on every machine. */
import { createHash } from "node:crypto";

const BORDERS = [0x01, 0x1f, 0x20, 0x22, 0x5c, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff];

export class RandomText {
  #seed: string;
  #counter = 0;
  #pool: number[] = [];

  constructor(seed: string) {
    this.#seed = seed;
  }

  below(bound: number): number {
    while (this.#pool.length < 4) {
      this.#pool.push(...createHash("sha256").update(`${this.#seed} ${this.#counter++}`).digest());
    }
    const [a, b, c] = this.#pool.splice(0, 3);
    return (a * 65_536 + b * 256 + c) % bound;
  }

  /** Mostly plain ASCII, so that whole words are plain too; often a border of what is escaped or encoded otherwise. */
  text(length: number): string {
    return Array.from({ length }, () => String.fromCodePoint(this.#codePoint())).join("");
  }

  bytes(length: number): Uint8Array {
    const kind = this.below(3);
    return Uint8Array.from({ length }, () => (kind === 0 ? this.below(256) : kind === 1 ? 1 + this.below(127) : this.#near()));
  }

  /** The text of these bytes, undefined where they are no UTF-8. */
  decode(bytes: Uint8Array): string | undefined {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (error) {
      if (error instanceof TypeError) return undefined;
      throw error;
    }
  }

  #codePoint(): number {
    const kind = this.below(20);
    if (kind < 16) return 0x20 + this.below(0x5f);
    if (kind === 16) return BORDERS[this.below(BORDERS.length)];
    const point = 1 + this.below(0x10ffff);
    return point >= 0xd800 && point <= 0xdfff ? 0xe000 : point;
  }

  /** Lead and continuation bytes at the borders of RFC 3629's table. */
  #near(): number {
    const near = [0x61, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf3, 0xf4];
    return near[this.below(near.length)];
  }
}
