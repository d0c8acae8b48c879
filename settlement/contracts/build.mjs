// node build.mjs          compiles the contracts and writes artifacts/
// node build.mjs --check  compares artifacts/ with a fresh compile; exits 1 and names what differs
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { compile, root } from "./compiler.mjs";

const args = process.argv.slice(2);
const check = args.length === 1 && args[0] === "--check";
if (args.length > 0 && !check) {
  console.error("usage: node build.mjs [--check]");
  process.exit(2);
}

const ours = (name) => [name, `src/${name}.sol`];
const openZeppelin = (folder, name) => [name, `node_modules/@openzeppelin/contracts/${folder}/${name}.sol`];
// What is deployed, on L1 or in the genesis of L2.
const contracts = Object.fromEntries([
  ours("Attestation"),
  ours("BridgedToken"),
  ours("ChallengeWindow"),
  ours("L2TokenBridge"),
  ours("MessagePasser"),
  ours("Rollup"),
  ours("TokenBridge"),
  openZeppelin("governance", "TimelockController"),
  openZeppelin("proxy/transparent", "TransparentUpgradeableProxy"),
]);
const artifactPath = (name) => join(root, "artifacts", `${name}.json`);

mkdirSync(join(root, "artifacts"), { recursive: true });
const fresh = compile(contracts);

if (check) {
  const files = readdirSync(join(root, "artifacts")).filter((file) => file.endsWith(".json"));
  const committed = new Set(files.map((file) => basename(file, ".json")));
  const differing = [];
  for (const [name, text] of Object.entries(fresh)) {
    if (!committed.delete(name)) differing.push(`artifacts/${name}.json is missing`);
    else if (readFileSync(artifactPath(name), "utf8") !== text) {
      differing.push(`artifacts/${name}.json differs from a fresh compile of ${contracts[name]}`);
    }
  }
  for (const name of committed) differing.push(`artifacts/${name}.json belongs to no contract of build.mjs`);
  for (const line of differing) console.error(line);
  if (differing.length > 0) {
    console.error("run `node build.mjs` and commit the result");
    process.exit(1);
  }
  console.log(`${Object.keys(fresh).length} artifacts are up to date`);
} else {
  for (const [name, text] of Object.entries(fresh)) {
    writeFileSync(artifactPath(name), text);
    console.log(`artifacts/${name}.json: ${JSON.parse(text).deployedBytecode.length / 2 - 1} bytes deployed`);
  }
}
