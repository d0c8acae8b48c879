// The one compiler configuration: build.mjs compiles the artifacts with it, and foundry.toml says the same to forge
// (test/Artifacts.t.sol fails if the two drift apart).
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

export const root = dirname(fileURLToPath(import.meta.url));

const settings = {
  // No metadata in the bytecode: it depends on the sources alone, and not on comments or paths.
  metadata: { bytecodeHash: "none", appendCBOR: false },
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 10_000 },
  viaIR: true,
  remappings: ["@openzeppelin/=node_modules/@openzeppelin/"],
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

function readSource(name) {
  try {
    return { contents: readFileSync(join(root, name), "utf8") };
  } catch (error) {
    return { error: error.message };
  }
}

/// Compiles contracts, given by name and the source that defines them; returns their artifacts by name. Warnings count as
/// errors, other people's sources excepted.
export function compile(contracts) {
  const paths = [...new Set(Object.values(contracts))];
  const sources = Object.fromEntries(
    paths.map((path) => [path, { content: readFileSync(join(root, path), "utf8") }]),
  );
  const input = { language: "Solidity", sources, settings };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readSource }));
  const theirs = ({ severity, sourceLocation }) =>
    severity !== "error" && sourceLocation?.file.startsWith("node_modules/");
  const problems = (output.errors ?? []).filter((problem) => !theirs(problem));
  if (problems.length > 0) {
    throw new Error(problems.map((problem) => problem.formattedMessage).join("\n"));
  }
  return Object.fromEntries(
    Object.entries(contracts).map(([name, path]) => {
      const { abi, evm } = output.contracts[path][name];
      const artifact = {
        abi,
        bytecode: `0x${evm.bytecode.object}`,
        deployedBytecode: `0x${evm.deployedBytecode.object}`,
      };
      return [name, `${JSON.stringify(artifact, null, 2)}\n`];
    }),
  );
}
