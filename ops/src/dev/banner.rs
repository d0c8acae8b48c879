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
        println!("Millrace {} · chain {}\n", env!("CARGO_PKG_VERSION"), self.chain_id);
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
        ];
        for (name, value) in rows {
            println!("  {name:<9} {value}");
        }
        println!("\n  Development keys, 10000 ETH each, known to everybody:");
        for index in 0..DEV_COMMITTER {
            let signer = dev_signer(index)?.with_chain_id(None);
            println!("    {}  {}", signer.address(), signer.to_bytes());
        }
        let (from, to) = (dev_signer(0)?, dev_signer(1)?.address());
        println!(
            "\n  Try\n    cast send --rpc-url {} --private-key {} {to} --value 1ether\n",
            short(&self.rpc),
            from.to_bytes(),
        );
        Ok(())
    }
}

fn short(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}
