// What the JavaScript clients share: published contracts, and a check that tells what differed.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const tools = process.env.MILLRACE_TOOLS ?? new URL("../../.tools", import.meta.url).pathname;
export const require = createRequire(join(tools, "package.json"));

export const [rpcUrl, privateKey] = process.argv.slice(2);

export function artifact(path) {
  const { abi, bytecode, evm } = JSON.parse(readFileSync(join(tools, "node_modules", path), "utf8"));
  const code = bytecode ?? evm.bytecode.object;
  return { abi, bytecode: code.startsWith("0x") ? code : `0x${code}` };
}

export const contracts = {
  erc20: "@openzeppelin/contracts/build/contracts/ERC20PresetFixedSupply.json",
  weth: "canonical-weth/build/contracts/WETH9.json",
  factory: "@uniswap/v2-core/build/UniswapV2Factory.json",
  pair: "@uniswap/v2-core/build/UniswapV2Pair.json",
  router: "@uniswap/v2-periphery/build/UniswapV2Router02.json",
};

export function same(what, got, expected) {
  if (got !== expected) throw new Error(`${what}: got ${got}, expected ${expected}`);
}

export function holds(what, condition) {
  if (!condition) throw new Error(what);
}
