//! A block that is being built, as its builder sees it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use millrace_proto::{BlockBuild, Executed, ExecutedBlock, ExecutorError, Noting, RecoveredTx};

use super::{
    handle::Inner,
    worker::{Command, Opened},
};

/// The builder's end of an open block. The block itself is with the worker.
pub(super) struct OpenBuild {
    inner: Arc<Inner>,
    build: u64,
    base_fee: Option<u64>,
    sealed: bool,
}

impl OpenBuild {
    pub(super) fn new(inner: Arc<Inner>, opened: Opened) -> Self {
        let Opened { build, base_fee } = opened;
        Self { inner, build, base_fee, sealed: false }
    }
}

#[async_trait]
impl BlockBuild for OpenBuild {
    fn base_fee(&self) -> Option<u64> {
        self.base_fee
    }

    async fn execute_noting(
        &mut self,
        transactions: Vec<Arc<RecoveredTx>>,
        noting: Noting,
    ) -> Result<Executed, ExecutorError> {
        let build = self.build;
        let command = |reply| Command::Execute { build, transactions, noting, reply };
        self.inner.worker.ask(command).await
    }

    async fn close(&mut self) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        let build = self.build;
        self.inner.worker.ask(|reply| Command::Close { build, reply }).await
    }

    async fn seal(mut self: Box<Self>) -> Result<Arc<ExecutedBlock>, ExecutorError> {
        self.sealed = true;
        let build = self.build;
        self.inner.worker.ask(|reply| Command::Seal { build, reply }).await
    }
}

impl Drop for OpenBuild {
    fn drop(&mut self) {
        if !self.sealed {
            self.inner.worker.discard(self.build);
        }
    }
}

impl fmt::Debug for OpenBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBuild").field("build", &self.build).finish_non_exhaustive()
    }
}
