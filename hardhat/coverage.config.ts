/** The project's configuration, with a place of its own for code in which every statement is counted. */
import config from "./hardhat.config.ts";

export default { ...config, paths: { ...config.paths, artifacts: "cache/coverage/artifacts", cache: "cache/coverage/cache" } };
