// Streams, from TypeScript: both ways over gRPC, server-sent events and JSON lines over REST.
import { create, fromJson } from "@bufbuild/protobuf";
import type { JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import createRest from "openapi-fetch";

import type { paths } from "@acme/counting/openapi";
import { AtSchema, Counting, TooFarSchema } from "@acme/counting/counting/v1";
import type { At } from "@acme/counting/counting/v1";

const [grpc, rest] = process.argv.slice(2);
const counting = createClient(Counting, createGrpcTransport({ baseUrl: `http://${grpc}` }));

async function* some(): AsyncGenerator<At> {
  for (const number of [7n, 8n]) yield create(AtSchema, { number });
}
const seen: bigint[] = [];
for await (const at of counting.echo(some())) seen.push(at.number);
console.log("echo", ...seen);

const counted: bigint[] = [];
try {
  for await (const at of counting.count({ last: 99n })) counted.push(at.number);
} catch (error) {
  if (!(error instanceof ConnectError)) throw error;
  const [refused] = error.findDetails(TooFarSchema);
  console.log("count", ...counted, Code[error.code], refused?.most);
}

const http = createRest<paths>({ baseUrl: rest });
async function get(last: number, accept: string): Promise<string> {
  const params = { path: { last } };
  const answer = await http.GET("/v1/count/{last}", { params, parseAs: "text", headers: { accept } });
  console.log(answer.response.status, answer.response.headers.get("content-type"));
  return answer.data as unknown as string;
}
const lines = (await get(2, "application/x-ndjson")).trimEnd().split("\n");
console.log("lines", ...lines.map((line) => fromJson(AtSchema, JSON.parse(line) as JsonValue).number));
const events = (await get(99, "text/event-stream")).trimEnd().split("\n\n");
console.log("events", ...events.map((event) => event.split("\n")[0]));
