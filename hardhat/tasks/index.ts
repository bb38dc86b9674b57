/** `npx hardhat insula ...`: what a dApp author does by hand. Everything is printed as JSON. */
import { emptyTask, task } from "hardhat/config";
import { ArgumentType } from "hardhat/types/arguments";

const BRIDGE = {
  name: "bridge",
  type: ArgumentType.STRING_WITHOUT_DEFAULT,
  description: "Address of the ComputeBridge; else INSULA_CONTRACT, else the known deployment of the chain",
  defaultValue: undefined,
} as const;
const DEPLOYMENTS = {
  name: "deployments",
  type: ArgumentType.STRING,
  description: "Folder with CHAINID.json of each known deployment",
  defaultValue: "../bridge/chain/abi/deployments",
} as const;

/** The options that make an order of a spec. */
const ordering = (action: string, description: string) =>
  task(["insula", action], description)
    .addPositionalArgument({ name: "spec", type: ArgumentType.FILE, description: "The job spec, passed on byte for byte" })
    .addOption(BRIDGE)
    .addOption(DEPLOYMENTS)
    .addOption({ name: "curator", description: "Whose word makes a label count", defaultValue: "" })
    .addFlag({ name: "anyNode", description: "Order without a curator: unsafe for money" })
    .addOption({ name: "labels", description: "Labels that the node must carry: gpu=yes,site=ap", defaultValue: "" })
    .addOption({ name: "result", description: "cid, stdout, stderr or exit-code", defaultValue: "cid" })
    .addOption({ name: "dialect", type: ArgumentType.INT, description: "1 insula/v1, 2 Bacalhau V1beta, 3 Bacalhau 1.x, 4 Lilypad", defaultValue: 1 })
    .addOption({ name: "nodes", type: ArgumentType.INT, description: "How many nodes run the job", defaultValue: 1 })
    .addOption({ name: "quorum", type: ArgumentType.INT, description: "How many of them must agree; 0: more than half", defaultValue: 0 })
    .addOption({ name: "ttl", type: ArgumentType.INT, description: "Seconds until a refund can be had", defaultValue: 3600 })
    .addOption({ name: "token", description: "ERC-20 that pays, of which the price is approved; else the chain's own", defaultValue: "" })
    .addOption({ name: "unitPrice", type: ArgumentType.BIGINT, description: "For each node that signed; smallest unit", defaultValue: 0n })
    .addOption({ name: "failPrice", type: ArgumentType.BIGINT, description: "For each node where the job ran and failed", defaultValue: 0n })
    .addOption({ name: "deliveryFee", type: ArgumentType.BIGINT, description: "For the relayer", defaultValue: 0n })
    .addOption({ name: "callback", description: "Contract to be called back", defaultValue: "" })
    .addOption({ name: "callbackGas", type: ArgumentType.BIGINT, description: "Gas for it", defaultValue: 0n });

const looking = (action: string, description: string) =>
  task(["insula", action], description)
    .addPositionalArgument({ name: "id", type: ArgumentType.BIGINT, description: "The request's id" })
    .addOption(BRIDGE)
    .addOption(DEPLOYMENTS);

export default [
  emptyTask("insula", "Order computations and read their results").build(),
  ordering("quote", "What an order costs, and whether registered nodes could answer it")
    .addOption({
      name: "lens",
      type: ArgumentType.STRING_WITHOUT_DEFAULT,
      description: "Address of the ComputeLens; else INSULA_LENS, else the known deployment of the chain",
      defaultValue: undefined,
    })
    .setAction(() => import("./quote.ts"))
    .build(),
  ordering("request", "Orders a job and pays its price").setAction(() => import("./request.ts")).build(),
  looking("read", "How a request stands: state, outcome, who signed").setAction(() => import("./read.ts")).build(),
  looking("watch", "Waits until a request is settled, expired or cancelled")
    .addOption({ name: "timeout", type: ArgumentType.INT, description: "Seconds", defaultValue: 600 })
    .addOption({ name: "poll", type: ArgumentType.INT, description: "Seconds between looks", defaultValue: 2 })
    .setAction(() => import("./watch.ts"))
    .build(),
  task(["insula", "export-deployment"], "Writes addresses of an Ignition deployment to where Python and these tasks look")
    .addOption(DEPLOYMENTS)
    .addOption({
      name: "deploymentId",
      type: ArgumentType.STRING_WITHOUT_DEFAULT,
      description: "Ignition's; chain-CHAINID when it is left out",
      defaultValue: undefined,
    })
    .setAction(() => import("./export-deployment.ts"))
    .build(),
];
