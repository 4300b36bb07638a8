"""blockhouse as Python's grpcio sees it: client.py PROTO_FOLDER SERVICE_CONFIG SERVING_PORT POOR_PORT POOR_ADMIN_PORT

The serving process has the sequences `tasks`, and `stuck`, of which nobody gets an ID in time. The poor one has neither ledger nor pods.
"""

import os
import re
import sys
import tempfile
import time
import urllib.request

import grpc
import grpc_tools
from google.protobuf import descriptor_pool
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

protos, config, serving, poor, poor_admin = sys.argv[1:]
service_config = open(config).read()
generated = tempfile.mkdtemp()
arguments = ["", f"-I{protos}", f"--python_out={generated}", f"--grpc_python_out={generated}"]
arguments.insert(2, f"-I{os.path.dirname(grpc_tools.__file__)}/_proto")
assert protoc.main(arguments + ["blockhouse/v1/blockhouse.proto"]) == 0
sys.path.insert(0, generated)
from blockhouse.v1 import blockhouse_pb2 as messages, blockhouse_pb2_grpc as stubs

SERVICE = "blockhouse.v1.AllocationService"


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


def refusals_of_the_poor():
    """How many requests that process has refused, by its own count."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{poor_admin}/metrics", timeout=5).read().decode()
    series = re.findall(r'^blockhouse_requests_total\{([^}]*)\} (\d+)$', page, re.MULTILINE)
    return sum(int(value) for labels, value in series if 'code="UNAVAILABLE"' in labels)


def one_answers_for_the_other():
    """The published service config: round robin over both, and retries take every call to the one that serves."""
    both = stubs.AllocationServiceStub(channel(poor, serving, options=[("grpc.service_config", service_config)]))
    before, deadline = refusals_of_the_poor(), time.monotonic() + 20
    while refusals_of_the_poor() < before + 2:
        assert time.monotonic() < deadline, "the process that refuses was never asked"
        both.Allocate(messages.AllocateRequest(sequence="tasks", count=1), timeout=10)


def unary_calls_are_answered(stub):
    answer = stub.Allocate(messages.AllocateRequest(sequence="tasks", count=2500), timeout=5)
    assert sum(part.count for part in answer.ranges) == 2500, answer


def refusals_carry_their_details(stub):
    name = "[a-z][a-z0-9_.-]{0,62}"
    code = grpc.StatusCode
    for request, status, reason, metadata in (
        ({"sequence": "nobodys", "count": 1}, code.NOT_FOUND, "SEQUENCE_UNKNOWN", {"sequence": "nobodys"}),
        ({"sequence": "tasks", "count": 0}, code.INVALID_ARGUMENT, "COUNT_INVALID",
         {"field": "count", "value": "0", "limit": "1000000"}),
        ({"sequence": "Tasks", "count": 1}, code.INVALID_ARGUMENT, "SEQUENCE_NAME_INVALID",
         {"field": "sequence", "value": "Tasks", "limit": name}),
    ):
        error, found = refused(stub, **request)
        info = found["ErrorInfo"]
        assert (error.code(), info.domain, info.reason) == (status, "blockhouse", reason), (error, found)
        assert dict(info.metadata) == metadata, info
        # Trying again is no use, and nothing says so.
        assert "RetryInfo" not in found and "grpc-retry-pushback-ms" not in dict(error.trailing_metadata()), error
        if reason == "SEQUENCE_UNKNOWN":
            assert "blockhouse sequence create nobodys" in error.details(), error.details()


def one_without_a_ledger_says_when_to_try_again():
    stub = stubs.AllocationServiceStub(channel(poor, options=[("grpc.enable_retries", 0)]))
    error, found = refused(stub, sequence="tasks", count=1)
    info = found["ErrorInfo"]
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    # Which of the two depends on whether it has looked for its ledger a moment ago.
    assert info.domain == "blockhouse" and info.reason in ("STARTING", "LEDGER_UNREACHABLE"), info
    # Twice over: for whoever reads the details, and for the client library's own retries.
    wait, pushback = found["RetryInfo"].retry_delay, dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
    assert wait.ToMilliseconds() == int(pushback) > 0, (wait, pushback)


def a_stream_answers_in_the_order_in_which_it_can(stub):
    """Answers are matched by their ids, an error ends one request, and half-closing ends the stream well."""
    request = messages.AllocateStreamRequest
    requests = [request(correlation_id=1000, sequence="stuck", count=1, timeout=Duration(seconds=2))]
    requests += [request(correlation_id=7 * n, sequence="tasks", count=n) for n in range(10)]
    answers = list(stub.AllocateStream(iter(requests), timeout=10))
    found = {answer.correlation_id: answer for answer in answers}
    assert len(answers) == 11 and set(found) == {request.correlation_id for request in requests}, answers
    late = answers[-1]
    assert (late.correlation_id, late.error.code, late.error.reason) == (1000, 4, "DEADLINE"), answers
    assert found[0].error.reason == "COUNT_INVALID" and not found[0].error.HasField("retry_after"), found[0]
    for n in range(1, 10):
        assert sum(part.count for part in found[7 * n].allocated.ranges) == n, found[7 * n]


def health_is_told():
    health = health_pb2_grpc.HealthStub(channel(serving))
    kinds = health_pb2.HealthCheckResponse
    for name in ("", SERVICE):
        request = health_pb2.HealthCheckRequest(service=name)
        assert health.Check(request, timeout=5).status == kinds.SERVING, name
        watch = health.Watch(request, timeout=5)
        assert next(watch).status == kinds.SERVING, name
        watch.cancel()
    waits = health_pb2_grpc.HealthStub(channel(poor)).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert waits.status == kinds.NOT_SERVING, waits
    try:
        health.Check(health_pb2.HealthCheckRequest(service="nobodys"), timeout=5)
        raise AssertionError("the health of a service that is none")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error


def reflection_describes_the_service():
    """grpcio still asks by v1alpha, as many tools do."""
    database = ProtoReflectionDescriptorDatabase(channel(serving))
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services()), database.get_services()
    service = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE)
    assert [method.name for method in service.methods] == ["Allocate", "AllocateStream"], service.methods
    fields = service.methods_by_name["Allocate"].input_type.fields_by_name
    assert {name: field.number for name, field in fields.items()} == {"sequence": 1, "count": 2}, fields


stub = stubs.AllocationServiceStub(channel(serving))
unary_calls_are_answered(stub)
refusals_carry_their_details(stub)
one_without_a_ledger_says_when_to_try_again()
one_answers_for_the_other()
a_stream_answers_in_the_order_in_which_it_can(stub)
health_is_told()
reflection_describes_the_service()
print("grpcio agrees")
