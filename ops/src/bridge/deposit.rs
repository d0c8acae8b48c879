//! `millrace deposit`.

use alloy::primitives::{Address, Bytes, U256};
use clap::Args;
use eyre::{Result, WrapErr};
use serde_json::json;

use super::{KeyArgs, RollupArgs, amount};

#[derive(Debug, Clone, Args)]
pub(crate) struct DepositArgs {
    #[command(flatten)]
    rollup: RollupArgs,

    #[command(flatten)]
    key: KeyArgs,

    /// How much, in ether or in the token's own unit, for example `1.5`.
    #[arg(long, value_name = "AMOUNT")]
    amount: String,

    /// Recipient on L2; the key's account where not given.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address>,

    /// A token of L1 instead of ether. The bridge is allowed to take as many as are deposited.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["data", "gas_limit"])]
    token: Option<Address>,

    /// Call the recipient on L2 with this input.
    #[arg(long, value_name = "HEX", requires = "gas_limit")]
    data: Option<Bytes>,

    /// Gas of the call on L2.
    #[arg(long, value_name = "GAS", requires = "data")]
    gas_limit: Option<u64>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Deposits, and returns once L1 has included it.
pub(crate) async fn run(args: DepositArgs) -> Result<()> {
    let rollup = args.rollup.contract().await?;
    let client = rollup.client();
    let chain_id = client.chain_id().await.wrap_err("the L1 does not answer")?;
    let signer = args.key.load(chain_id).await?;
    let to = args.to.unwrap_or(signer.address());
    let (index, receipt) = match args.token {
        Some(token) => {
            let amount = amount::tokens(client, token, &args.amount).await?;
            rollup.deposit_tokens(&signer, token, to, amount).await
        }
        None => {
            let call = args.gas_limit.zip(args.data);
            rollup.deposit(&signer, to, amount::ether(&args.amount)?, call).await
        }
    }
    .map_err(|error| super::failed(error, "deposited"))?;
    let block = receipt.block_number.unwrap_or_default();
    if args.json {
        let fee = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
        println!(
            "{}",
            json!({
                "index": index, "l1_tx": receipt.transaction_hash, "l1_block": block, "l1_fee": fee, "to": to,
            })
        );
    } else {
        println!(
            "deposit {index} is in L1 block {block} (transaction {}); L2 takes it once L1 has confirmed it",
            receipt.transaction_hash
        );
    }
    Ok(())
}
