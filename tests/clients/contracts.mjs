// Real contracts by their published bytecode: WETH9, Uniswap v2, ERC-20, CREATE2 through the deterministic proxy, EIP-7702.
import { artifact, contracts, holds, privateKey, require, rpcUrl, same } from "./common.mjs";

const {
  AbiCoder, Contract, ContractFactory, JsonRpcProvider, Wallet, concat, getCreate2Address, keccak256, parseEther, zeroPadValue,
} = require("ethers");

const provider = new JsonRpcProvider(rpcUrl, undefined, { pollingInterval: 100, cacheTimeout: -1 });
const wallet = new Wallet(privateKey, provider);
const me = wallet.address;

async function deploy(path, ...args) {
  const { abi, bytecode } = artifact(path);
  const contract = await new ContractFactory(abi, bytecode, wallet).deploy(...args);
  await contract.waitForDeployment();
  return new Contract(await contract.getAddress(), abi, wallet);
}
const done = async (sending) => {
  const receipt = await (await sending).wait();
  same("status", receipt.status, 1);
  return receipt;
};

const weth = await deploy(contracts.weth);
await done(weth.deposit({ value: parseEther("5") }));
same("wrapped ether", await weth.balanceOf(me), parseEther("5"));
await done(weth.withdraw(parseEther("1")));
same("unwrapped", await weth.balanceOf(me), parseEther("4"));

const token = await deploy(contracts.erc20, "Mill", "MILL", parseEther("1000000"), me);
const factory = await deploy(contracts.factory, me);
const router = await deploy(contracts.router, await factory.getAddress(), await weth.getAddress());
const routerAddress = await router.getAddress();
const tokenAddress = await token.getAddress();

const deadline = Math.floor(Date.now() / 1000) + 3600;
await done(token.approve(routerAddress, parseEther("100000")));
await done(router.addLiquidityETH(tokenAddress, parseEther("10000"), 0, 0, me, deadline, { value: parseEther("10") }));
const pairAddress = await factory.getPair(tokenAddress, await weth.getAddress());
const pair = new Contract(pairAddress, artifact(contracts.pair).abi, wallet);
holds("liquidity was minted", (await pair.balanceOf(me)) > 0n);

const before = await token.balanceOf(me);
const path = [await weth.getAddress(), tokenAddress];
const [, quoted] = await router.getAmountsOut(parseEther("1"), path);
const swap = await done(router.swapExactETHForTokens(quoted, path, me, deadline, { value: parseEther("1"), gasLimit: 300_000 }));
same("swapped", (await token.balanceOf(me)) - before, quoted);
holds("the swap has its events", swap.logs.length >= 4);
// The pair's price accumulators make a swap dearer when time has passed since the estimate: give it room.
const room = { gasLimit: 300_000 };
await done(router.swapExactTokensForETH(parseEther("100"), 0, [...path].reverse(), me, deadline, room));

// CREATE2 through the proxy that deploy tools expect at this address.
const proxy = "0x4e59b44847b379578588920cA78FbF26c0B4956C";
const salt = zeroPadValue("0x01", 32);
const { bytecode } = artifact(contracts.weth);
const expected = getCreate2Address(proxy, salt, keccak256(bytecode));
await done(wallet.sendTransaction({ to: proxy, data: concat([salt, bytecode]) }));
holds("CREATE2 deployed where it should", (await provider.getCode(expected)) !== "0x");

// EIP-7702: an account that has no code delegates to WETH9 and answers as WETH9.
const delegator = new Wallet(Wallet.createRandom().privateKey, provider);
await done(wallet.sendTransaction({ to: delegator.address, value: parseEther("1") }));
const authorization = await delegator.authorize({ address: expected, nonce: 0 });
const type4 = await done(wallet.sendTransaction({ type: 4, to: delegator.address, authorizationList: [authorization], gasLimit: 200_000 }));
same("transaction type", type4.type, 4);
same("delegation", await provider.getCode(delegator.address), `0xef0100${expected.slice(2).toLowerCase()}`);
// The delegated code answers: WETH9's totalSupply() is the account's own balance.
const supply = await provider.call({ to: delegator.address, data: "0x18160ddd" });
same("delegated call", AbiCoder.defaultAbiCoder().decode(["uint256"], supply)[0], parseEther("1"));

console.log(JSON.stringify({ ok: true, pair: pairAddress }));
provider.destroy();
