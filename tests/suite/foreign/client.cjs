// blockhouse as Node's grpc-js sees it: client.cjs PROTO_FOLDER SERVICE_CONFIG SERVING_PORT POOR_PORT POOR_ADMIN_PORT
//
// The serving process has the sequences `tasks`, and `stuck`, of which nobody gets an ID in time. The poor one has neither ledger nor pods.
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const health = require("grpc-health-check");
const loader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");
const descriptor = require("protobufjs/ext/descriptor");

const [protos, config, serving, poor, poorAdmin] = process.argv.slice(2);
const SERVICE = "blockhouse.v1.AllocationService";
const shape = { longs: String, enums: String, defaults: true, oneofs: true };
const load = (file, folder) => grpc.loadPackageDefinition(loader.loadSync(file, { includeDirs: [folder], ...shape }));
const { AllocationService } = load("blockhouse/v1/blockhouse.proto", protos).blockhouse.v1;
const reflections = path.join(path.dirname(require.resolve("@grpc/reflection")), "../proto");
const { ServerReflection } = load("grpc/reflection/v1/reflection.proto", reflections).grpc.reflection.v1;
const Health = grpc.makeGenericClientConstructor(health.service, "Health");

const client = (Stub, ports, options = {}) =>
  new Stub("ipv4:" + ports.map((port) => `127.0.0.1:${port}`).join(","), grpc.credentials.createInsecure(), options);
const soon = (seconds) => ({ deadline: new Date(Date.now() + seconds * 1000) });
const call = (stub, method, request, seconds = 5) =>
  new Promise((resolve, reject) => {
    stub[method](request, soon(seconds), (error, answer) => (error ? reject(error) : resolve(answer)));
  });
const allocate = (stub, request, seconds) => call(stub, "allocate", request, seconds);
const refused = (answer) => answer.then((got) => assert.fail(`answered: ${JSON.stringify(got)}`), (error) => error);
const sum = (ranges) => ranges.reduce((total, range) => total + Number(range.count), 0);

// The standard error details, as google/rpc numbers their fields.
const details = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { Duration retry_delay = 1; }
`, { keepCase: true }).root;
const detailsOf = (error) => {
  const [packed] = error.metadata.get("grpc-status-details-bin");
  const status = details.lookupType("google.rpc.Status").decode(packed);
  assert.deepStrictEqual([status.code, status.message], [error.code, error.details]);
  const found = {};
  for (const { type_url: url, value } of status.details) {
    const name = url.replace("type.googleapis.com/", "");
    found[name] = details.lookupType(name).decode(value);
  }
  return found;
};

// How many requests the poor process has refused, by its own count.
const refusalsOfThePoor = async () => {
  const page = await (await fetch(`http://127.0.0.1:${poorAdmin}/metrics`)).text();
  const series = [...page.matchAll(/^blockhouse_requests_total\{([^}]*)\} (\d+)$/gm)];
  const refusals = series.filter(([, labels]) => labels.includes('code="UNAVAILABLE"'));
  return refusals.reduce((total, [, , value]) => total + Number(value), 0);
};

// The published service config: round robin over both, and retries take every call to the one that serves.
const oneAnswersForTheOther = async () => {
  const both = client(AllocationService, [poor, serving], { "grpc.service_config": fs.readFileSync(config, "utf8") });
  const [before, deadline] = [await refusalsOfThePoor(), Date.now() + 20_000];
  while ((await refusalsOfThePoor()) < before + 2) {
    assert.ok(Date.now() < deadline, "the process that refuses was never asked");
    await allocate(both, { sequence: "tasks", count: 1 }, 10);
  }
};

const unaryCallsAreAnswered = async (stub) => {
  const answer = await allocate(stub, { sequence: "tasks", count: 2500 });
  assert.strictEqual(sum(answer.ranges), 2500);
};

const refusalsCarryTheirDetails = async (stub) => {
  const { NOT_FOUND, INVALID_ARGUMENT } = grpc.status;
  for (const [sequence, count, code, reason, metadata] of [
    ["nobodys", 1, NOT_FOUND, "SEQUENCE_UNKNOWN", { sequence: "nobodys" }],
    ["tasks", 0, INVALID_ARGUMENT, "COUNT_INVALID", { field: "count", value: "0", limit: "1000000" }],
    ["Tasks", 1, INVALID_ARGUMENT, "SEQUENCE_NAME_INVALID",
      { field: "sequence", value: "Tasks", limit: "[a-z][a-z0-9_.-]{0,62}" }],
  ]) {
    const error = await refused(allocate(stub, { sequence, count }));
    const found = detailsOf(error);
    const info = found["google.rpc.ErrorInfo"];
    assert.deepStrictEqual([error.code, info.domain, info.reason], [code, "blockhouse", reason]);
    assert.deepStrictEqual({ ...info.metadata }, metadata);
    // Trying again is no use, and nothing says so.
    assert.ok(!("google.rpc.RetryInfo" in found));
    assert.deepStrictEqual(error.metadata.get("grpc-retry-pushback-ms"), []);
  }
};

const oneWithoutALedgerSaysWhenToTryAgain = async () => {
  const stub = client(AllocationService, [poor], { "grpc.enable_retries": 0 });
  const error = await refused(allocate(stub, { sequence: "tasks", count: 1 }));
  const found = detailsOf(error);
  const info = found["google.rpc.ErrorInfo"];
  assert.strictEqual(error.code, grpc.status.UNAVAILABLE);
  assert.strictEqual(info.domain, "blockhouse");
  // Which of the two depends on whether it has looked for its ledger a moment ago.
  assert.ok(["STARTING", "LEDGER_UNREACHABLE"].includes(info.reason), info.reason);
  // Twice over: for whoever reads the details, and for the client library's own retries.
  const { seconds, nanos } = found["google.rpc.RetryInfo"].retry_delay;
  const wait = Number(seconds) * 1000 + nanos / 1e6;
  assert.ok(wait > 0);
  assert.strictEqual(wait, Number(error.metadata.get("grpc-retry-pushback-ms")[0]));
};

// Answers are matched by their ids, an error ends one request, and half-closing ends the stream well.
const aStreamAnswersInTheOrderInWhichItCan = async (stub) => {
  const requests = [{ correlationId: 1000, sequence: "stuck", count: 1, timeout: { seconds: 2 } }];
  for (let n = 0; n < 10; n += 1) {
    requests.push({ correlationId: 7 * n, sequence: "tasks", count: n });
  }
  const stream = stub.allocateStream(soon(10));
  requests.forEach((request) => stream.write(request));
  stream.end();
  const answers = [];
  for await (const answer of stream) answers.push({ ...answer, id: Number(answer.correlationId) });

  const found = new Map(answers.map((answer) => [answer.id, answer]));
  assert.strictEqual(answers.length, requests.length);
  assert.deepStrictEqual(new Set(found.keys()), new Set(requests.map((request) => request.correlationId)));
  const late = answers.at(-1);
  assert.deepStrictEqual([late.id, late.error?.code, late.error?.reason], [1000, 4, "DEADLINE"]);
  assert.deepStrictEqual([found.get(0).error.reason, found.get(0).error.retryAfter], ["COUNT_INVALID", null]);
  for (let n = 1; n < 10; n += 1) {
    assert.strictEqual(sum(found.get(7 * n).allocated.ranges), n);
  }
};

const healthIsTold = async () => {
  const serves = client(Health, [serving]);
  for (const service of ["", SERVICE]) {
    assert.strictEqual((await call(serves, "check", { service })).status, "SERVING");
    const watch = serves.watch({ service }, soon(5));
    for await (const { status } of watch) {
      assert.strictEqual(status, "SERVING");
      break;
    }
  }
  assert.strictEqual((await call(client(Health, [poor]), "check", { service: "" })).status, "NOT_SERVING");
  const unknown = await refused(call(serves, "check", { service: "nobodys" }));
  assert.strictEqual(unknown.code, grpc.status.NOT_FOUND);
};

// Asks for one thing of the server's own description.
const reflected = async (request) => {
  const stream = client(ServerReflection, [serving]).serverReflectionInfo(soon(5));
  stream.write(request);
  stream.end();
  for await (const answer of stream) return answer;
};

// A client that has no .proto file: it asks for the service's, and for those that this one imports.
const reflectionDescribesTheService = async () => {
  const names = (await reflected({ listServices: "" })).listServicesResponse.service.map(({ name }) => name);
  assert.ok(names.includes(SERVICE) && names.includes("grpc.health.v1.Health"), names);
  const files = new Map();
  const asked = [{ fileContainingSymbol: SERVICE }];
  while (asked.length > 0) {
    const { fileDescriptorResponse } = await reflected(asked.pop());
    for (const bytes of fileDescriptorResponse.fileDescriptorProto) {
      const file = descriptor.FileDescriptorProto.decode(bytes);
      files.set(file.name, file);
      asked.push(...file.dependency.filter((name) => !files.has(name)).map((name) => ({ fileByFilename: name })));
    }
  }
  const found = loader.loadFileDescriptorSetFromObject({ file: [...files.values()] }, shape);
  const Described = grpc.loadPackageDefinition(found).blockhouse.v1.AllocationService;
  const answer = await allocate(client(Described, [serving]), { sequence: "tasks", count: 3 });
  assert.strictEqual(sum(answer.ranges), 3);
};

(async () => {
  const stub = client(AllocationService, [serving]);
  await unaryCallsAreAnswered(stub);
  await refusalsCarryTheirDetails(stub);
  await oneWithoutALedgerSaysWhenToTryAgain();
  await oneAnswersForTheOther();
  await aStreamAnswersInTheOrderInWhichItCan(stub);
  await healthIsTold();
  await reflectionDescribesTheService();
  console.log("grpc-js agrees");
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
