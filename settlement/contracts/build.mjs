// node build.mjs          compiles src/ and writes artifacts/
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

const namesIn = (folder, extension) =>
  readdirSync(join(root, folder))
    .filter((file) => file.endsWith(extension))
    .map((file) => basename(file, extension))
    .sort();
const artifactPath = (name) => join(root, "artifacts", `${name}.json`);

mkdirSync(join(root, "artifacts"), { recursive: true });
const fresh = compile(namesIn("src", ".sol"));

if (check) {
  const committed = new Set(namesIn("artifacts", ".json"));
  const differing = [];
  for (const [name, text] of Object.entries(fresh)) {
    if (!committed.delete(name)) differing.push(`artifacts/${name}.json is missing`);
    else if (readFileSync(artifactPath(name), "utf8") !== text) {
      differing.push(`artifacts/${name}.json differs from a fresh compile of src/${name}.sol`);
    }
  }
  for (const name of committed) differing.push(`artifacts/${name}.json has no src/${name}.sol`);
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
