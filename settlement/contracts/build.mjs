// node build.mjs          compiles the contracts and writes artifacts/, and test/artifacts/ for tests beside forge's
// node build.mjs --check  compares them with a fresh compile; exits 1 and names what differs
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
// What tests beside forge's deploy.
const forTests = { SilentToken: "test/support/Tokens.sol" };
const folders = { artifacts: contracts, "test/artifacts": forTests };

const differing = [];
let count = 0;
for (const [folder, sources] of Object.entries(folders)) {
  mkdirSync(join(root, folder), { recursive: true });
  const fresh = Object.entries(compile(sources));
  count += fresh.length;
  if (check) differing.push(...differences(folder, fresh));
  else write(folder, fresh);
}
if (check) {
  for (const line of differing) console.error(line);
  if (differing.length > 0) {
    console.error("run `node build.mjs` and commit the result");
    process.exit(1);
  }
  console.log(`${count} artifacts are up to date`);
}

function differences(folder, fresh) {
  const files = readdirSync(join(root, folder)).filter((file) => file.endsWith(".json"));
  const committed = new Set(files.map((file) => basename(file, ".json")));
  const differing = [];
  for (const [name, text] of fresh) {
    const path = join(folder, `${name}.json`);
    if (!committed.delete(name)) differing.push(`${path} is missing`);
    else if (readFileSync(join(root, path), "utf8") !== text) {
      differing.push(`${path} differs from a fresh compile of ${folders[folder][name]}`);
    }
  }
  for (const name of committed) differing.push(`${folder}/${name}.json belongs to no contract of build.mjs`);
  return differing;
}

function write(folder, fresh) {
  for (const [name, text] of fresh) {
    writeFileSync(join(root, folder, `${name}.json`), text);
    console.log(`${folder}/${name}.json: ${JSON.parse(text).deployedBytecode.length / 2 - 1} bytes deployed`);
  }
}
