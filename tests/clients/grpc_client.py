"""A gRPC client generated from the .proto files: submits a stream, then watches every transaction to FINALIZED."""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

import grpc
from eth_account import Account
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

endpoint, private_key, chain_id, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
proto = Path(os.environ.get("MILLRACE_PROTO", Path(__file__).parents[2] / "proto"))

generated = tempfile.TemporaryDirectory()
files = sorted(str(path) for path in (proto / "millrace/v1").glob("*.proto"))
code = protoc.main(["protoc", f"-I{proto}", f"--python_out={generated.name}", f"--grpc_python_out={generated.name}", *files])
if code != 0:
    raise SystemExit("the .proto files do not compile")
sys.path.insert(0, generated.name)
common = importlib.import_module("millrace.v1.common_pb2")
messages = importlib.import_module("millrace.v1.sequencer_pb2")
services = importlib.import_module("millrace.v1.sequencer_pb2_grpc")

channel = grpc.insecure_channel(endpoint.removeprefix("http://").rstrip("/"))
listed = ProtoReflectionDescriptorDatabase(channel).get_services()
if "millrace.v1.Sequencer" not in listed:
    raise SystemExit(f"reflection does not list the service: {listed}")

sequencer = services.SequencerStub(channel)
status = sequencer.GetStatus(messages.GetStatusRequest())
if status.chain_id != chain_id:
    raise SystemExit(f"chain id {status.chain_id}, expected {chain_id}")

me = Account.from_key(private_key)
to = Account.create().address


def signed(nonce):
    return me.sign_transaction({
        "type": 2, "chainId": chain_id, "nonce": nonce, "to": to, "value": 1, "gas": 21_000,
        "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**6,
    }).raw_transaction


first = int(sys.argv[5])
requests = [messages.SubmitTransactionsRequest(raw=bytes(signed(first + i)), tag=i) for i in range(count)]
# One that must be refused without harm to the others: garbage in the middle of the stream.
requests.insert(count // 2, messages.SubmitTransactionsRequest(raw=b"\x02garbage", tag=10_000))

hashes, rejections = [], []
for position, reply in enumerate(sequencer.SubmitTransactions(iter(requests))):
    if reply.tag != requests[position].tag:
        raise SystemExit(f"reply {position} has tag {reply.tag}, expected {requests[position].tag}")
    if reply.HasField("rejection"):
        rejections.append(reply.rejection.reason)
    else:
        hashes.append(reply.status.hash)
if len(hashes) != count or rejections != ["BAD_ENCODING"]:
    raise SystemExit(f"{len(hashes)} of {count} accepted, rejected: {rejections}")

try:
    sequencer.SubmitTransaction(messages.SubmitTransactionRequest(raw=b"\x01"))
    raise SystemExit("garbage was taken")
except grpc.RpcError as error:
    if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
        raise SystemExit(f"garbage gave {error.code()}")

order = [common.STAGE_ACCEPTED, common.STAGE_SEQUENCED, common.STAGE_POSTED, common.STAGE_COMMITTED, common.STAGE_FINALIZED]
blocks = set()
for hash in hashes:
    seen = [update.stage for update in sequencer.WatchTransaction(messages.WatchTransactionRequest(hash=hash), timeout=180)]
    if seen != sorted(set(seen)) or seen[-1] != common.STAGE_FINALIZED or not set(order) <= set(seen):
        raise SystemExit(f"stages of {hash.hex()}: {[common.Stage.Name(stage) for stage in seen]}")
    blocks.add(sequencer.GetTransaction(messages.GetTransactionRequest(hash=hash)).status.block.number)

stream = sequencer.SubscribeBlocks(messages.SubscribeBlocksRequest(**{"from": min(blocks)}))
included = set()
for block in stream:
    included |= {transaction.hash for transaction in block.transactions}
    if block.number >= max(blocks):
        stream.cancel()
        break
if not set(hashes) <= included:
    raise SystemExit("the block stream misses transactions")

print(json.dumps({"ok": True, "client": "grpc", "transactions": count, "blocks": len(blocks)}))
