"""web3.py: transfer, deploy, call, revert with reason, logs, fee estimate, receipt."""

import json
import os
import sys
from pathlib import Path

from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractLogicError

rpc_url, private_key = sys.argv[1:3]
tools = Path(os.environ.get("MILLRACE_TOOLS", Path(__file__).parents[2] / ".tools"))
artifact = json.loads(
    (tools / "node_modules/@openzeppelin/contracts/build/contracts/ERC20PresetFixedSupply.json").read_text()
)


def same(what, got, expected):
    if got != expected:
        raise SystemExit(f"{what}: got {got}, expected {expected}")


w3 = Web3(Web3.HTTPProvider(rpc_url))
same("connected", w3.is_connected(), True)
me = Account.from_key(private_key)
other = Account.create().address


def send(transaction):
    """Fills in, signs, sends, and waits."""
    transaction = {
        "from": me.address,
        "nonce": w3.eth.get_transaction_count(me.address, "pending"),
        "chainId": w3.eth.chain_id,
        "maxFeePerGas": w3.eth.gas_price * 2,
        "maxPriorityFeePerGas": w3.eth.max_priority_fee,
        **transaction,
    }
    if "gas" not in transaction:
        transaction["gas"] = w3.eth.estimate_gas(transaction)
    signed = me.sign_transaction(transaction)
    return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction), poll_latency=0.1)


transfer = send({"to": other, "value": Web3.to_wei(1, "ether")})
same("transfer status", transfer["status"], 1)
same("balance", w3.eth.get_balance(other), Web3.to_wei(1, "ether"))
history = w3.eth.fee_history(4, "latest", [50])
same("fee history", len(history["baseFeePerGas"]) >= 2, True)

supply = 1_000_000
factory = w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
created = send({"data": factory.constructor("Mill", "MILL", supply, me.address).data_in_transaction, "to": b""})
token = w3.eth.contract(address=created["contractAddress"], abi=artifact["abi"])
same("name", token.functions.name().call(), "Mill")

moved = send({"to": token.address, "data": token.encode_abi("transfer", [other, 5])})
events = token.events.Transfer().process_receipt(moved)
same("logged value", events[0]["args"]["value"], 5)
found = token.events.Transfer().get_logs(from_block=moved["blockNumber"], argument_filters={"to": other})
same("logs found", len(found), 1)

try:
    token.functions.transfer(other, supply).call({"from": me.address})
    raise SystemExit("a transfer above the balance did not revert")
except ContractLogicError as error:
    same("revert reason", "ERC20: transfer amount exceeds balance" in str(error), True)

watcher = w3.eth.filter({"address": token.address})
again = send({"to": token.address, "data": token.encode_abi("transfer", [other, 7])})
same("filter changes", [e["transactionHash"] for e in watcher.get_new_entries()], [again["transactionHash"]])

print(json.dumps({"ok": True, "client": "web3.py", "hash": transfer["transactionHash"].to_0x_hex()}))
