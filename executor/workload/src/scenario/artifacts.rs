//! The published bytecode of contracts, from the npm packages that hold it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use alloy_primitives::{Bytes, hex};
use serde_json::Value;

/// Creation code of the contracts that blocks are made of.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// OpenZeppelin's `ERC20PresetFixedSupply` (`@openzeppelin/contracts` 4.9).
    pub erc20: Bytes,
    /// WETH9 (`canonical-weth`).
    pub weth: Bytes,
    /// Uniswap v2's factory (`@uniswap/v2-core`).
    pub factory: Bytes,
    /// Uniswap v2's router (`@uniswap/v2-periphery`).
    pub router: Bytes,
    /// Uniswap v3's factory (`@uniswap/v3-core`).
    pub v3_factory: Bytes,
    /// Uniswap v3's position manager (`@uniswap/v3-periphery`).
    pub v3_positions: Bytes,
    /// Uniswap v3's router (`@uniswap/v3-periphery`).
    pub v3_router: Bytes,
}

/// Why there is no bytecode.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file cannot be read.
    #[error(
        "cannot read {path}: {source}; tests/setup.sh brings the packages into .tools/node_modules"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no bytecode.
    #[error("{path} holds no contract's bytecode")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A contract does not behave as expected.
    #[error("the contracts cannot be set up: {0}")]
    Setup(String),
}

impl Artifacts {
    /// Reads them from a `node_modules` folder.
    ///
    /// # Errors
    /// When a package is missing.
    pub fn read(node_modules: &Path) -> Result<Self, ArtifactError> {
        let read = |path: &str| creation_code(&node_modules.join(path));
        let periphery = |name: &str| {
            read(&format!("@uniswap/v3-periphery/artifacts/contracts/{name}.sol/{name}.json"))
        };
        Ok(Self {
            erc20: read("@openzeppelin/contracts/build/contracts/ERC20PresetFixedSupply.json")?,
            weth: read("canonical-weth/build/contracts/WETH9.json")?,
            factory: read("@uniswap/v2-core/build/UniswapV2Factory.json")?,
            router: read("@uniswap/v2-periphery/build/UniswapV2Router02.json")?,
            v3_factory: read(
                "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
            )?,
            v3_positions: periphery("NonfungiblePositionManager")?,
            v3_router: periphery("SwapRouter")?,
        })
    }
}

fn creation_code(path: &Path) -> Result<Bytes, ArtifactError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ArtifactError::Read { path: path.to_owned(), source })?;
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let code = json["bytecode"].as_str().and_then(|code| hex::decode(code).ok());
    match code {
        Some(code) if !code.is_empty() => Ok(code.into()),
        _ => Err(ArtifactError::Format { path: path.to_owned() }),
    }
}
