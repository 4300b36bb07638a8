// blockhouse as Node's grpc-js sees it: client.cjs PROTO_FOLDER SERVICE_CONFIG SERVING_PORT STARTING_PORT
const assert = require("node:assert");
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [protos, config, serving, starting] = process.argv.slice(2);
const definition = loader.loadSync("blockhouse/v1/blockhouse.proto", {
  includeDirs: [protos], longs: String, enums: String, defaults: true, oneofs: true,
});
const { AllocationService } = grpc.loadPackageDefinition(definition).blockhouse.v1;
const client = (ports, options = {}) =>
  new AllocationService("ipv4:" + ports.map((port) => `127.0.0.1:${port}`).join(","), grpc.credentials.createInsecure(), options);
const allocate = (stub, request, seconds = 5) =>
  new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + seconds * 1000);
    stub.allocate(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
const refused = async (stub, request) => {
  try {
    await allocate(stub, request);
  } catch (error) {
    return error;
  }
  throw new Error(`${JSON.stringify(request)} was answered`);
};
const sum = (ranges) => ranges.reduce((total, range) => total + Number(range.count), 0);

(async () => {
  const stub = client([serving]);
  const answer = await allocate(stub, { sequence: "tasks", count: 2500 });
  assert.strictEqual(sum(answer.ranges), 2500);

  const unknown = await refused(stub, { sequence: "nobodys", count: 1 });
  assert.strictEqual(unknown.code, grpc.status.NOT_FOUND);
  const details = unknown.metadata.get("grpc-status-details-bin")[0].toString("latin1");
  assert.ok(details.includes("SEQUENCE_UNKNOWN") && details.includes("google.rpc.ErrorInfo"), details);

  const away = await refused(client([starting], { "grpc.enable_retries": 0 }), { sequence: "tasks", count: 1 });
  assert.strictEqual(away.code, grpc.status.UNAVAILABLE);
  assert.ok(Number(away.metadata.get("grpc-retry-pushback-ms")[0]) > 0);

  const both = client([starting, serving], { "grpc.service_config": fs.readFileSync(config, "utf8") });
  for (let n = 0; n < 20; n += 1) {
    await allocate(both, { sequence: "tasks", count: 1 }, 10);
  }

  const answers = new Map();
  await new Promise((resolve, reject) => {
    const stream = stub.allocateStream({ deadline: new Date(Date.now() + 10_000) });
    stream.on("data", (data) => answers.set(Number(data.correlationId), data));
    stream.on("error", reject);
    stream.on("end", resolve);
    for (let n = 0; n < 10; n += 1) {
      stream.write({ correlationId: n, sequence: n === 3 ? "nobodys" : "tasks", count: n + 1 });
    }
    stream.end();
  });
  assert.strictEqual(answers.size, 10);
  assert.strictEqual(answers.get(3).error.reason, "SEQUENCE_UNKNOWN");
  assert.strictEqual(sum(answers.get(9).allocated.ranges), 10);
  console.log("grpc-js agrees");
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
