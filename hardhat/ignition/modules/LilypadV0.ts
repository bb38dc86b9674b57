/** LilypadV0 before the bridge of the Insula module. The curator and the terms are parameters without defaults. */
import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

import Insula from "./Insula.ts";

export default buildModule("LilypadV0", (m) => {
  const { registry, bridge, lens } = m.useModule(Insula);
  const lilypad = m.contract("LilypadV0", [
    bridge,
    m.getParameter("curator"),
    {
      fee: m.getParameter("fee"),
      deliveryFee: m.getParameter("deliveryFee"),
      failPrice: m.getParameter("failPrice"),
      ttl: m.getParameter("ttl"),
      callbackGas: m.getParameter("callbackGas"),
      pushGas: m.getParameter("pushGas"),
    },
  ]);
  return { registry, bridge, lens, lilypad };
});
