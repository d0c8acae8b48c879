// ethers v6: transfer, deploy, call, revert with reason, logs, fee estimate, receipt.
import { artifact, contracts, holds, privateKey, require, rpcUrl, same } from "./common.mjs";

const { Contract, ContractFactory, JsonRpcProvider, Wallet, parseEther } = require("ethers");

const provider = new JsonRpcProvider(rpcUrl, undefined, { pollingInterval: 100, cacheTimeout: -1 });
const wallet = new Wallet(privateKey, provider);
const other = Wallet.createRandom().address;

const fees = await provider.getFeeData();
holds("fees have a cap and a tip", fees.maxFeePerGas > 0n && fees.maxPriorityFeePerGas >= 0n);

const transfer = await wallet.sendTransaction({ to: other, value: parseEther("1") });
const receipt = await transfer.wait();
same("transfer status", receipt.status, 1);
same("gas of a transfer", receipt.gasUsed, 21000n);
same("balance", await provider.getBalance(other), parseEther("1"));
const block = await provider.getBlock(receipt.blockNumber, true);
holds("the block lists the transaction", block.transactions.includes(transfer.hash));

const { abi, bytecode } = artifact(contracts.erc20);
const supply = 1_000_000n;
const deployed = await new ContractFactory(abi, bytecode, wallet).deploy("Mill", "MILL", supply, wallet.address);
await deployed.waitForDeployment();
const token = new Contract(await deployed.getAddress(), abi, wallet);
same("name", await token.name(), "Mill");
same("supply", await token.balanceOf(wallet.address), supply);

const estimate = await token.transfer.estimateGas(other, 5n);
const sent = await (await token.transfer(other, 5n)).wait();
holds("the estimate covers the gas used", estimate >= sent.gasUsed);
same("events", sent.logs.length, 1);

const logs = await token.queryFilter(token.filters.Transfer(wallet.address, other), sent.blockNumber);
same("logs found", logs.length, 1);
same("logged value", logs[0].args[2], 5n);

try {
  await token.transfer.staticCall(other, supply);
  throw new Error("a transfer above the balance did not revert");
} catch (error) {
  same("revert reason", error.reason, "ERC20: transfer amount exceeds balance");
}
try {
  await token.transfer.estimateGas(other, supply);
  throw new Error("the estimate of a failing transfer did not fail");
} catch (error) {
  same("revert reason of the estimate", error.reason, "ERC20: transfer amount exceeds balance");
}

const failed = await wallet.sendTransaction({
  to: await token.getAddress(), data: token.interface.encodeFunctionData("transfer", [other, supply]), gasLimit: 100_000,
});
try {
  await failed.wait();
  throw new Error("a failing transaction was reported as a success");
} catch (error) {
  same("failed receipt", error.receipt?.status, 0);
}
try {
  await wallet.sendTransaction({ to: other, value: 1n, nonce: 0 });
  throw new Error("a used nonce was taken");
} catch (error) {
  same("error code", error.code, "NONCE_EXPIRED");
}

console.log(JSON.stringify({ ok: true, client: "ethers", hash: transfer.hash }));
provider.destroy();
