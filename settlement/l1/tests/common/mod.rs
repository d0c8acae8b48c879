//! What the tests against anvil share.
#![allow(dead_code, unused_imports, reason = "every test binary uses a part of it")]

use std::{path::Path, time::Duration};

use alloy::{
    eips::eip4844::Blob,
    primitives::{Address, B256, Bytes, U256, keccak256},
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};
use millrace_l1::{
    DeployParams, L1Client, Rollup, RollupContract, TxManager, TxManagerConfig, TxRequest,
    deploy_rollup,
    testing::{Anvil, AnvilOptions, dev_signer, test_params},
};
use millrace_proto::{BatchHeader, DaKind};

pub(crate) use millrace_l1::testing::{Fault, FaultProxy};

/// The owner, the batcher and the committer of the test chain.
pub(crate) const OWNER: u32 = 0;
pub(crate) const BATCHER: u32 = 1;
pub(crate) const COMMITTER: u32 = 2;
pub(crate) const USER: u32 = 3;

pub(crate) const GENESIS: &[u8] = br#"{"config":{"chainId":42042}}"#;

pub(crate) struct Chain {
    pub(crate) anvil: Anvil,
    pub(crate) rollup: RollupContract,
}

impl Chain {
    /// An anvil with the rollup contract on it.
    pub(crate) async fn start(options: AnvilOptions) -> Self {
        let no_mining = options.no_mining;
        let anvil = Anvil::start(AnvilOptions { no_mining: false, ..options }).expect("anvil");
        let address = deploy(anvil.client()).await;
        if no_mining {
            anvil.set_automine(false).await.expect("automine off");
        }
        let rollup = RollupContract::new(anvil.client().clone(), address);
        Self { anvil, rollup }
    }

    pub(crate) fn client(&self) -> &L1Client {
        self.anvil.client()
    }

    /// A transaction manager for one of anvil's accounts.
    pub(crate) async fn manager(
        &self,
        account: u32,
        dir: &Path,
        config: TxManagerConfig,
    ) -> TxManager {
        TxManager::open(config, self.client().clone(), dev_signer(account), dir, "test")
            .await
            .expect("transaction manager")
    }

    /// Deposits on an anvil that mines at once, and waits until the deposit is in a block.
    pub(crate) async fn deposit(&self, to: Address, wei: u64) {
        let call = Rollup::depositETHCall { to }.abi_encode();
        let params = serde_json::json!([{
            "from": dev_signer(USER).address(),
            "to": self.rollup.address(),
            "value": U256::from(wei),
            "input": Bytes::from(call),
            "gas": "0x40000",
        }]);
        let hash = self.anvil.rpc("eth_sendTransaction", params).await.expect("deposit");
        let hash = hash.as_str().and_then(|hash| hash.parse().ok()).expect("hash");
        until("the deposit's block", async || {
            self.client().receipt(hash).await.expect("receipt").is_some()
        })
        .await;
    }

    /// A `postBatch` of some blobs.
    pub(crate) fn post(&self, number: u64, blobs: Vec<Blob>) -> TxRequest {
        let header = header(number);
        let call =
            Rollup::postBatchCall { epoch: 0, header: (&header).into(), daPointer: Bytes::new() };
        TxRequest::call(format!("post-{number}"), self.rollup.address(), call.abi_encode())
            .with_blobs(blobs)
    }
}

pub(crate) fn header(number: u64) -> BatchHeader {
    BatchHeader {
        number,
        first_block: number * 10 - 9,
        last_block: number * 10,
        deposits_end: 0,
        deposits_hash: B256::ZERO,
        digest: keccak256(number.to_be_bytes()),
        da_kind: DaKind::L1Blob,
    }
}

/// A blob with some bytes in it, each a valid field element.
pub(crate) fn blob(seed: u8) -> Blob {
    let mut blob = Blob::default();
    for (index, element) in blob.chunks_mut(32).enumerate() {
        element[1] = seed;
        element[2] = index as u8;
    }
    blob
}

pub(crate) async fn deploy(client: &L1Client) -> Address {
    let owner: PrivateKeySigner = dev_signer(OWNER);
    let (batcher, committer) = (dev_signer(BATCHER).address(), dev_signer(COMMITTER).address());
    let params = DeployParams {
        genesis_json: GENESIS.into(),
        ..test_params(owner.address(), batcher, committer)
    };
    deploy_rollup(client, owner, params).await.expect("deployment").rollup
}

/// Patience that suits a node on this machine.
pub(crate) fn quick() -> TxManagerConfig {
    TxManagerConfig {
        poll_interval: Duration::from_millis(20),
        resubmit_after: Duration::from_millis(300),
        ..TxManagerConfig::default()
    }
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for a future that is expected to be quick.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}
