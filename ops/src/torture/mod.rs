//! `millrace torture`: made-up inputs that are hard to get right, checked against the plain way.

mod crypto;
mod executor;
mod progress;

use clap::Subcommand;
use eyre::Result;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Torture {
    /// Blocks of conflicting transactions, executed in order and on threads.
    Executor(executor::ExecutorArgs),
    /// Signatures, recovered several at a time and one by one.
    Crypto(crypto::CryptoArgs),
}

/// Runs the command.
pub(crate) async fn run(args: Torture) -> Result<()> {
    match args {
        Torture::Executor(args) => executor::run(args).await,
        Torture::Crypto(args) => crypto::run(args).await,
    }
}
