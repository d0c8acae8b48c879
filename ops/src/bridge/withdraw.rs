//! `millrace withdraw`.

use alloy::primitives::{Address, Bytes};
use clap::Args;
use eyre::{Result, WrapErr, eyre};
use millrace_l1::{Withdrawal, contracts::L2TokenBridge};
use millrace_proto::TOKEN_BRIDGE;
use serde_json::json;
use url::Url;

use super::{KeyArgs, amount};

/// Gas of the payment on L1 where there is no call: enough for a wallet that is a contract.
const PAYMENT_GAS: u64 = 100_000;

#[derive(Debug, Clone, Args)]
pub(crate) struct WithdrawArgs {
    /// JSON-RPC of L2.
    #[arg(long, value_name = "URL", env = "MILLRACE_RPC")]
    rpc: Url,

    #[command(flatten)]
    key: KeyArgs,

    /// How much, in ether or in the token's own unit, for example `1.5`.
    #[arg(long, value_name = "AMOUNT")]
    amount: String,

    /// Recipient on L1; the key's account where not given.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address>,

    /// A token instead of ether, by its address on L1.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["data", "gas_limit"])]
    token: Option<Address>,

    /// Call the recipient on L1 with this input.
    #[arg(long, value_name = "HEX", requires = "gas_limit")]
    data: Option<Bytes>,

    /// Gas of the call on L1, at least.
    #[arg(long, value_name = "GAS", requires = "data")]
    gas_limit: Option<u64>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Sends the withdrawal, and returns once L2 has included it.
pub(crate) async fn run(args: WithdrawArgs) -> Result<()> {
    let l2 = super::l2(&args.rpc)?;
    let chain_id = l2.chain_id().await.wrap_err("the L2 does not answer")?;
    let signer = args.key.load(chain_id).await?;
    let to = args.to.unwrap_or(signer.address());
    let withdrawal = match args.token {
        Some(token) => {
            let call = L2TokenBridge::tokenOfCall { l1Token: token };
            let counterpart = l2.call(TOKEN_BRIDGE, &call).await?;
            let amount = amount::tokens(&l2, counterpart, &args.amount).await;
            let amount = amount.wrap_err("the token was never brought to L2")?;
            Withdrawal::Token { token, amount }
        }
        None => Withdrawal::Ether {
            value: amount::ether(&args.amount)?,
            gas_limit: args.gas_limit.unwrap_or(PAYMENT_GAS),
            data: args.data.unwrap_or_default(),
        },
    };
    let sent = millrace_l1::withdraw(&l2, &signer, to, withdrawal).await;
    let (messages, receipt) = sent.map_err(|error| super::failed(error, "withdrawn"))?;
    let [message] = messages.as_slice() else {
        return Err(eyre!("transaction {} sent no message", receipt.transaction_hash));
    };
    let block = receipt.block_number.unwrap_or_default();
    if args.json {
        println!(
            "{}",
            json!({ "tx": receipt.transaction_hash, "block": block, "id": message.id(), "message": message })
        );
    } else {
        println!(
            "withdrawal {} is in block {block}; once the block's batch is committed on L1:\n\n  \
             millrace prove-withdrawal --rpc {} --tx {} --l1 URL --rollup ADDRESS --out withdrawal.json",
            message.id(),
            args.rpc,
            receipt.transaction_hash
        );
    }
    Ok(())
}
