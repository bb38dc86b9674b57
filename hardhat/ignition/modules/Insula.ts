/** Registry, bridge and lens. Nothing of it can be changed later: read contracts/README.md before mainnet. */
import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

export default buildModule("Insula", (m) => {
  const registry = m.contract("NodeRegistry", [m.getParameter("notice"), m.getParameter("unbonding")]);
  const times = [m.getParameter("minTtl"), m.getParameter("maxTtl"), m.getParameter("cancelDelay")] as const;
  const bridge = m.contract("ComputeBridge", [registry, ...times, m.getParameter("owner", m.getAccount(0))]);
  const lens = m.contract("ComputeLens");
  return { registry, bridge, lens };
});
