"""blockhouse as Python's grpcio sees it: client.py PROTO_FOLDER SERVICE_CONFIG SERVING_PORT STARTING_PORT"""

import os
import sys
import tempfile

import grpc
import grpc_tools
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from grpc_tools import protoc

protos, config, serving, starting = sys.argv[1:]
service_config = open(config).read()
generated = tempfile.mkdtemp()
arguments = ["", f"-I{protos}", f"--python_out={generated}", f"--grpc_python_out={generated}"]
arguments.insert(2, f"-I{os.path.dirname(grpc_tools.__file__)}/_proto")
assert protoc.main(arguments + ["blockhouse/v1/blockhouse.proto"]) == 0
sys.path.insert(0, generated)
from blockhouse.v1 import blockhouse_pb2 as messages, blockhouse_pb2_grpc as stubs


def channel(*ports, options=()):
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    # Of several addresses grpcio makes an authority that is none.
    return grpc.insecure_channel(target, options=[("grpc.default_authority", "blockhouse"), *options])


def details(error):
    found = {}
    for packed in rpc_status.from_call(error).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                found[kind.__name__] = kind()
                packed.Unpack(found[kind.__name__])
    return found


def refused(stub, **request):
    try:
        stub.Allocate(messages.AllocateRequest(**request), timeout=5)
    except grpc.RpcError as error:
        return error, details(error)
    raise AssertionError(f"{request} was answered")


# The published service config: round robin over both, and retries take every call to the one that serves.
options = [("grpc.service_config", service_config)]
both = stubs.AllocationServiceStub(channel(starting, serving, options=options))
for _ in range(20):
    both.Allocate(messages.AllocateRequest(sequence="tasks", count=1), timeout=10)

# Unary.
stub = stubs.AllocationServiceStub(channel(serving))
answer = stub.Allocate(messages.AllocateRequest(sequence="tasks", count=2500), timeout=5)
assert sum(part.count for part in answer.ranges) == 2500, answer

# Errors carry their details.
error, found = refused(stub, sequence="nobodys", count=1)
assert error.code() == grpc.StatusCode.NOT_FOUND, error
assert found["ErrorInfo"].domain == "blockhouse", found
assert found["ErrorInfo"].reason == "SEQUENCE_UNKNOWN", found
assert "RetryInfo" not in found, found
error, found = refused(stub, sequence="tasks", count=0)
assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
assert found["ErrorInfo"].reason == "COUNT_INVALID", found
error, found = refused(stub, sequence="Tasks", count=1)
assert found["ErrorInfo"].reason == "SEQUENCE_NAME_INVALID", found

# UNAVAILABLE says when to try again, twice over.
quiet = [("grpc.enable_retries", 0)]
error, found = refused(stubs.AllocationServiceStub(channel(starting, options=quiet)), sequence="tasks", count=1)
assert error.code() == grpc.StatusCode.UNAVAILABLE, error
assert found["RetryInfo"].retry_delay.ToMilliseconds() > 0, found
pushback = dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
assert int(pushback) > 0, pushback

# A stream: answers are matched by their id, an error ends one request, half-closing ends the stream well.
requests = [
    messages.AllocateStreamRequest(correlation_id=n, sequence="nobodys" if n == 3 else "tasks", count=n + 1)
    for n in range(10)
]
answers = {answer.correlation_id: answer for answer in stub.AllocateStream(iter(requests), timeout=10)}
assert sorted(answers) == list(range(10)), answers
assert answers[3].error.reason == "SEQUENCE_UNKNOWN", answers[3]
for n in set(range(10)) - {3}:
    assert sum(part.count for part in answers[n].allocated.ranges) == n + 1, answers[n]

# Health.
health = health_pb2_grpc.HealthStub(channel(serving))
for name in ("", "blockhouse.v1.AllocationService"):
    status = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status
    assert status == health_pb2.HealthCheckResponse.SERVING, (name, status)
waiting = health_pb2_grpc.HealthStub(channel(starting)).Check(health_pb2.HealthCheckRequest(), timeout=5).status
assert waiting == health_pb2.HealthCheckResponse.NOT_SERVING, waiting

print("grpcio agrees")
