// A client of the shop in TypeScript, built from the published package: gRPC with Connect, REST with openapi-fetch.
import { create, fromJson, toJson } from "@bufbuild/protobuf";
import type { JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import createRest from "openapi-fetch";

import { OutOfStockSchema, ReserveSchema, StockSchema } from "@acme/shop-contracts/examples/shop/contracts";
import { OrderPlacedSchema } from "@acme/shop-contracts/examples/shop/contracts";
import type { components, paths } from "@acme/shop-contracts/openapi";
import { Inventory } from "@acme/shop-contracts/shop/inventory/v1";

const [grpc, rest] = process.argv.slice(2);
const order = create(ReserveSchema, {
  orderId: "o-1",
  lines: [{ sku: "tea", quantity: 3n, price: { currencyCode: "EUR", units: 2n, nanos: 500_000_000 } }],
});

const inventory = createClient(Inventory, createGrpcTransport({ baseUrl: `http://${grpc}` }));
const stock = await inventory.stock({ sku: "tea" }, { timeoutMs: 20_000 });
console.log("grpc", stock.sku, stock.available);
try {
  await inventory.reserve(order, { headers: { "idempotency-key": "ts-1" } });
} catch (error) {
  if (!(error instanceof ConnectError)) throw error;
  for (const refused of error.findDetails(OutOfStockSchema)) {
    console.log("refused", Code[error.code], refused.sku, refused.available);
  }
}

const http = createRest<paths>({ baseUrl: rest });
const answer = await http.GET("/v1/stock/{sku}", { params: { path: { sku: "tea" } } });
if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
const read = fromJson(StockSchema, answer.data as JsonValue);
console.log("rest", answer.response.status, answer.data.sku, answer.data.available, read.available);

// what TypeScript prints is what we read, 64-bit integers as strings
const body = toJson(ReserveSchema, order, { alwaysEmitImplicit: true });
const turned = await http.POST("/v1/reservations", {
  body: body as unknown as components["schemas"]["Reserve"],
  headers: { "idempotency-key": "ts-2" },
});
if (turned.error === undefined) throw new Error("it was not refused");
const problem = turned.error as components["schemas"]["OutOfStockProblem"];
console.log("refused", turned.response.status, problem.type, problem.refusal?.sku, problem.refusal?.available);

// an event is read like any other message
const placed = fromJson(OrderPlacedSchema, {
  order_id: "o-1",
  customer: "ada",
  total: { currency_code: "EUR", units: "7" },
});
console.log("event", placed.orderId, placed.total?.units);

// the types have teeth: what the contract does not say does not compile
// @ts-expect-error there is no such field
inventory.stock({ colour: "red" }).catch(() => undefined);
// @ts-expect-error there is no such path
http.GET("/v1/stocks").catch(() => undefined);
