// node gas.mjs  checks that snapshots/gas.json is whole; exits 1 and names what is missing, or is not measured any more
//
// Every function that changes state has a figure, and every figure belongs to one and is measured by a test. (forge
// compares the figures, and says nothing of those that it finds on one side alone.)
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { root } from "./compiler.mjs";

const read = (...path) => readFileSync(join(root, ...path), "utf8");
const json = (folder) => readdirSync(join(root, folder)).filter((file) => file.endsWith(".json"));

const abis = Object.fromEntries(
  json("artifacts").map((file) => [basename(file, ".json"), JSON.parse(read("artifacts", file)).abi]),
);
// The proxies' constructors make it.
const { abi } = JSON.parse(read("node_modules/@openzeppelin/contracts/build/contracts/ProxyAdmin.json"));
abis.ProxyAdmin = abi.filter(({ type }) => type !== "constructor");

const kinds = new Set(["function", "constructor", "receive", "fallback"]);
const functions = Object.entries(abis).flatMap(([contract, items]) =>
  items
    .filter(({ type, stateMutability }) => kinds.has(type) && !["view", "pure"].includes(stateMutability))
    .map(({ type, name }) => `${contract}.${name ?? type}`),
);
const figures = Object.keys(JSON.parse(read("snapshots/gas.json")));
const measured = new Set(figures.map((figure) => figure.split(",")[0]));
const tests = readdirSync(join(root, "test")).filter((file) => file.startsWith("Gas"));
const sources = tests.map((file) => read("test", file)).join("\n");
// Of a creation, the name is put together from the artifact's and the variant's.
const isMeasured = (figure) => {
  const [contract, variant] = figure.split(".constructor");
  return sources.includes(`"${figure}"`) || (variant !== undefined && sources.includes(`"${contract}", "${variant}"`));
};
const named = [...sources.matchAll(/"((?:[A-Z]\w+)\.[a-z]\w*(?:, [^"]*)?)"/g)].map(([, name]) => name);

const problems = [
  ...functions.filter((name) => !measured.has(name)).map((name) => `${name} has no figure`),
  ...[...measured].filter((name) => !functions.includes(name)).map((name) => `${name} is no function that changes state`),
  ...figures.filter((figure) => !isMeasured(figure)).map((figure) => `no test measures "${figure}"`),
  ...named.filter((name) => !figures.includes(name)).map((name) => `"${name}" is measured, and not in the file`),
];
for (const problem of problems) console.error(`snapshots/gas.json: ${problem}`);
if (problems.length > 0) {
  console.error("measure it in test/Gas*.t.sol, run forge without FORGE_SNAPSHOT_CHECK, and commit the result");
  process.exit(1);
}
console.log(`${functions.length} functions have ${figures.length} gas figures`);
