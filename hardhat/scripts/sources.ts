/** The sources of the contracts, for scripts that ask the compiler themselves. */
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, posix } from "node:path";
import { fileURLToPath } from "node:url";

export const HARDHAT = fileURLToPath(new URL("..", import.meta.url));
export const ROOT = join(HARDHAT, "..");

type Sources = Record<string, { content: string }>;

/** Where the source of each contract is, relative to hardhat/, by its name. */
export function contractSources(): Map<string, string> {
  const paths = readdirSync(join(ROOT, "contracts"), { recursive: true, encoding: "utf8" }).sort();
  return new Map(paths.filter((path) => path.endsWith(".sol")).map((path) => [basename(path, ".sol"), `contracts/${path}`]));
}

/** A source and all that it imports, by the names under which the compiler asks for them; `root` holds contracts/. */
export function withImports(source: string, root: string, found: Sources = {}): Sources {
  if (source in found) return found;
  const content = readFileSync(join(source.startsWith("contracts/") ? root : join(HARDHAT, "node_modules"), source), "utf8");
  found[source] = { content };
  for (const [, path] of content.matchAll(/^import\s+(?:[^"';]*\sfrom\s+)?"([^"]+)"/gm)) {
    withImports(path.startsWith(".") ? posix.join(posix.dirname(source), path) : path, root, found);
  }
  return found;
}

/** The compiler of the project, loaded once: 2 s. Takes and gives standard JSON; throws on what does not compile. */
export function loadCompiler() {
  const require = createRequire(import.meta.url);
  const solc = require("solc/wrapper")(require("solc/soljson.js"));
  return (sources: Sources, settings: object) => {
    const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
    const error = output.errors?.find(({ severity }: { severity: string }) => severity === "error");
    if (error) throw new SyntaxError(error.formattedMessage);
    return output;
  };
}
