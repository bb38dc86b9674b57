/** ResultBook on a deployed system, and jobs that it ordered. */
import { CHAIN_ID, deployed, ethers, type Placed } from "./fixture.ts";
import { labelHash, makeOrder, priceOf, requestHash } from "./wire.ts";

export async function resultBook() {
  const system = await deployed();
  const book = await ethers.deployContract("ResultBook", [system.bridgeAt]);
  const at = await book.getAddress();
  const callbackGas = await book.CALLBACK_GAS();
  async function ordered(resultKind: number): Promise<Placed> {
    const order = makeOrder({
      resultKind, nodes: 3, quorum: 2, curator: system.curator.address, labels: [labelHash("gpu=yes")],
      callback: at, callbackGas,
    });
    const { spec, nodes, quorum, ttl, curator, labels, unitPrice, failPrice, deliveryFee } = order;
    const prices = [unitPrice, failPrice, deliveryFee] as const;
    await book.order(spec, resultKind, nodes, quorum, ttl, curator, labels, ...prices, { value: priceOf(order) });
    const id = await system.bridge.requestCount();
    return { id, order, requester: at, hash: requestHash(CHAIN_ID, system.bridgeAt, id, at, order) };
  }
  return { ...system, system, book, at, ordered };
}
