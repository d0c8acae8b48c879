// viem: transfer, deploy, call, revert with reason, logs, fee estimate, receipt, WebSocket heads.
import { artifact, contracts, holds, privateKey, require, rpcUrl, same } from "./common.mjs";

const { createPublicClient, createWalletClient, defineChain, http, parseEther, webSocket, BaseError, ContractFunctionRevertedError } =
  require("viem");
const { generatePrivateKey, privateKeyToAccount } = require("viem/accounts");

const bare = createPublicClient({ transport: http(rpcUrl) });
const chain = defineChain({
  id: await bare.getChainId(), name: "Millrace", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [rpcUrl] } },
});
const account = privateKeyToAccount(privateKey);
const reader = createPublicClient({ chain, transport: http(rpcUrl), pollingInterval: 100 });
const wallet = createWalletClient({ chain, account, transport: http(rpcUrl) });
const other = privateKeyToAccount(generatePrivateKey()).address;

const heads = createPublicClient({ chain, transport: webSocket(rpcUrl.replace("http", "ws")) });
const firstHead = new Promise((resolve, reject) => {
  heads.watchBlocks({ emitMissed: false, onBlock: resolve, onError: reject });
});

const fees = await reader.estimateFeesPerGas();
holds("fees have a cap", fees.maxFeePerGas > 0n);

const hash = await wallet.sendTransaction({ to: other, value: parseEther("1") });
const receipt = await reader.waitForTransactionReceipt({ hash });
same("transfer status", receipt.status, "success");
same("balance", await reader.getBalance({ address: other }), parseEther("1"));
const head = await firstHead;
holds("a head arrived over WebSocket", head.number > 0n);

const { abi, bytecode } = artifact(contracts.erc20);
const supply = 1_000_000n;
const deployment = await wallet.deployContract({ abi, bytecode, args: ["Mill", "MILL", supply, account.address] });
const { contractAddress: address } = await reader.waitForTransactionReceipt({ hash: deployment });
holds("the receipt names the contract", address);
same("symbol", await reader.readContract({ address, abi, functionName: "symbol" }), "MILL");

const { request } = await reader.simulateContract({ account, address, abi, functionName: "transfer", args: [other, 5n] });
const moved = await reader.waitForTransactionReceipt({ hash: await wallet.writeContract(request) });
same("events", moved.logs.length, 1);
const logs = await reader.getContractEvents({
  address, abi, eventName: "Transfer", args: { to: other }, fromBlock: moved.blockNumber,
});
same("logged value", logs[0].args.value, 5n);

try {
  await reader.simulateContract({ account, address, abi, functionName: "transfer", args: [other, supply] });
  throw new Error("a transfer above the balance did not revert");
} catch (error) {
  holds(`a viem error: ${error}`, error instanceof BaseError);
  const revert = error.walk((cause) => cause instanceof ContractFunctionRevertedError);
  same("revert reason", revert?.reason, "ERC20: transfer amount exceeds balance");
}

const block = await reader.getBlock({ blockNumber: moved.blockNumber, includeTransactions: true });
same("block holds the transaction", block.transactions.some((tx) => tx.hash === moved.transactionHash), true);
for (const blockTag of ["latest", "safe", "finalized", "earliest", "pending"]) {
  holds(`a block for ${blockTag}`, (await reader.getBlock({ blockTag })).number !== undefined);
}
const proof = await reader.getProof({ address, storageKeys: [`0x${"0".repeat(64)}`] });
holds("a proof has nodes", proof.accountProof.length > 0);

console.log(JSON.stringify({ ok: true, client: "viem", hash }));
process.exit(0);
