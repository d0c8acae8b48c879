//! Calls that change nothing.

use std::{fmt, sync::Arc};

use alloy::eips::eip2930::AccessList;
use millrace_proto::RejectReason;
use revm::{
    ExecuteEvm, InspectEvm, MainBuilder,
    context::{
        TxEnv,
        result::{EVMError, ExecutionResult},
    },
};
use revm_inspectors::access_list::AccessListInspector;

use super::{
    CodeCache, EvmEnv, ExecutionError, StateReader,
    executor::{build_context, build_evm},
    handler::{BlockEvm, BlockEvmError},
    reject::reject_reason,
};

/// Runs calls on top of one state. What a run reads is kept for the next, what it writes is not.
pub(crate) struct CallExecutor<R: StateReader> {
    env: EvmEnv,
    evm: BlockEvm<R>,
}

/// How a call ended, or why it could not start.
pub(crate) type CallResult = Result<Result<ExecutionResult, RejectReason>, ExecutionError>;

impl<R: StateReader> CallExecutor<R> {
    pub(crate) fn new(env: EvmEnv, reader: R, codes: Arc<CodeCache>) -> Self {
        Self { evm: build_evm(&env, reader, codes), env }
    }

    pub(crate) fn run(&mut self, tx: TxEnv) -> CallResult {
        let result = self.evm.transact_one(tx);
        drop(self.evm.finalize());
        finish(result, &self.evm.ctx.tx, &self.env)
    }
}

/// Runs a call and collects the accounts and slots that it uses beyond those that are always warm.
pub(crate) fn collect_access_list<R: StateReader>(
    env: &EvmEnv,
    reader: R,
    codes: Arc<CodeCache>,
    tx: TxEnv,
) -> Result<Result<(ExecutionResult, AccessList), RejectReason>, ExecutionError> {
    let inspector = AccessListInspector::new(tx.access_list.clone());
    let mut evm = build_context(env, reader, codes).build_mainnet_with_inspector(inspector);
    let result = evm.inspect_one_tx(tx);
    let result = finish(result, &evm.ctx.tx, env)?;
    Ok(result.map(|result| (result, evm.inspector.into_access_list())))
}

fn finish(result: Result<ExecutionResult, BlockEvmError>, tx: &TxEnv, env: &EvmEnv) -> CallResult {
    match result {
        Ok(result) => Ok(Ok(result)),
        Err(EVMError::Transaction(invalid)) => Ok(Err(reject_reason(invalid, tx, env))),
        Err(error) => Err(error.into()),
    }
}

impl<R: StateReader> fmt::Debug for CallExecutor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallExecutor").field("env", &self.env).finish_non_exhaustive()
    }
}
