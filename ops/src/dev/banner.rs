//! What a person sees first, and the ready line for programs.

use std::path::PathBuf;

use alloy::{primitives::Address, signers::Signer};
use eyre::Result;
use serde::Serialize;
use url::Url;

use crate::{
    config::PerService,
    keys::{DEV_COMMITTER, dev_signer},
};

/// Where everything answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Endpoints {
    pub(super) l1: Url,
    pub(super) beacon: Url,
    pub(super) rpc: Url,
    pub(super) ws: Url,
    pub(super) grpc: Url,
    pub(super) metrics: PerService<Url>,
    pub(super) rollup: Address,
    pub(super) chain_id: u64,
    pub(super) data_dir: PathBuf,
    /// The object store that batches go to, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) da_store: Option<Url>,
    /// The alt-DA server that batches go to, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alt_da: Option<Url>,
    /// The Celestia node that batches go to, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) celestia: Option<Url>,
    /// Where the node's token is, if it asks for one.
    #[serde(skip)]
    pub(super) celestia_token: Option<PathBuf>,
    /// Where blobs are kept, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) archive: Option<Url>,
    /// The head that the chain was resumed at; 0 for a new one.
    pub(super) resumed_at: u64,
}

#[derive(Serialize)]
struct ReadyLine<'a> {
    ready: bool,
    #[serde(flatten)]
    endpoints: &'a Endpoints,
}

impl Endpoints {
    /// Prints the ready line (JSON) or the banner (people).
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(&ReadyLine { ready: true, endpoints: self })?);
            return Ok(());
        }
        print!("Millrace {} · chain {}", env!("CARGO_PKG_VERSION"), self.chain_id);
        match self.resumed_at {
            0 => println!(", new\n"),
            block => println!(", resumed at block {block}\n"),
        }
        let rows = [
            ("JSON-RPC", format!("{}  {}", short(&self.rpc), short(&self.ws))),
            ("gRPC", short(&self.grpc)),
            ("L1", format!("{}  beacon {}", short(&self.l1), short(&self.beacon))),
            ("Rollup", format!("{} on L1", self.rollup)),
            ("Metrics", format!("sequencer  {}", self.metrics.sequencer)),
            ("", format!("executor   {}", self.metrics.executor)),
            ("", format!("da-adapter {}", self.metrics.da_adapter)),
            ("", format!("settlement {}", self.metrics.settlement)),
            ("Data", self.data_dir.display().to_string()),
            ("Crypto", millrace_crypto::engine().to_string()),
        ];
        for (name, value) in rows {
            println!("  {name:<9} {value}");
        }
        println!("\n  Development keys, 10000 ETH each on both chains, known to everybody:");
        for index in 0..DEV_COMMITTER {
            let signer = dev_signer(index)?.with_chain_id(None);
            println!("    {}  {}", signer.address(), signer.to_bytes());
        }
        let (from, to) = (dev_signer(0)?, dev_signer(1)?.address());
        let (rpc, l1, key) = (short(&self.rpc), short(&self.l1), from.to_bytes());
        println!(
            "\n  Send ether\n    cast send --rpc-url {rpc} --private-key {key} {to} --value 1ether"
        );
        println!(
            "  Deposit from L1\n    cast send --rpc-url {l1} --private-key {key} {} 'depositETH(address)' {to} --value 1ether",
            self.rollup
        );
        let mut chain =
            format!("--l1 {l1} --beacon {} --rollup {}", short(&self.beacon), self.rollup);
        if let Some(store) = &self.da_store {
            chain.push_str(&format!(" --da-store {store}"));
        }
        if let Some(server) = &self.alt_da {
            chain.push_str(&format!(" --alt-da {}", short(server)));
        }
        if let Some(node) = &self.celestia {
            chain.push_str(&format!(" --celestia {}", short(node)));
        }
        if let Some(file) = &self.celestia_token {
            chain.push_str(&format!(" --celestia-token {}", file.display()));
        }
        if let Some(archive) = &self.archive {
            chain.push_str(&format!(" --archive {archive}"));
        }
        println!("  Check the chain from L1 alone\n    millrace verify {chain}");
        println!(
            "  Run a full node\n    millrace follow {chain} --sequencer {}\n",
            short(&self.grpc)
        );
        Ok(())
    }
}

fn short(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}
