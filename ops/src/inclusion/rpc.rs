//! `millrace_getInclusionProof`.

use std::sync::Arc;

use alloy::primitives::TxHash;
use eyre::Result;
use jsonrpsee::{Methods, RpcModule, types::ErrorObjectOwned};

use super::InclusionProver;

/// The method.
pub(crate) const METHOD: &str = "millrace_getInclusionProof";

/// The method as JSON-RPC serves it.
pub(crate) fn methods(prover: InclusionProver) -> Result<Methods> {
    let mut module = RpcModule::new(Arc::new(prover));
    module.register_async_method(METHOD, |params, prover, _| async move {
        let hash: TxHash = params.one()?;
        Ok::<_, ErrorObjectOwned>(prover.prove(hash).await?)
    })?;
    Ok(module.into())
}
