//! `millrace force-include`.

use alloy::{
    consensus::{Transaction, TxEip1559},
    primitives::{Address, Bytes, TxKind},
};
use clap::Args;
use eyre::{Result, WrapErr, bail, ensure};
use millrace_l1::{L1Signer, sign_transaction};
use millrace_proto::{MAX_FORCED_GAS, RecoveredTx};
use serde_json::json;
use url::Url;

use super::{KeyArgs, RollupArgs, amount};

#[derive(Debug, Clone, Args)]
pub(crate) struct ForceArgs {
    #[command(flatten)]
    rollup: RollupArgs,

    // Pays on L1, and signs the transaction where none is given with `--raw`.
    #[command(flatten)]
    key: KeyArgs,

    /// A signed transaction of L2 in hexadecimal, as `cast mktx` prints it.
    #[arg(long, value_name = "HEX", conflicts_with = "to", required_unless_present = "to")]
    raw: Option<Bytes>,

    /// Sign a transaction to this address. `0x4200000000000000000000000000000000000016` withdraws the amount to L1.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address>,

    /// Ether that it sends along.
    #[arg(long, value_name = "AMOUNT", default_value = "0", requires = "to")]
    amount: String,

    /// Its input.
    #[arg(long, value_name = "HEX", default_value = "0x", requires = "to")]
    data: Bytes,

    /// Its gas limit, 1000000 at most.
    #[arg(long, value_name = "GAS", default_value_t = 200_000, requires = "to")]
    gas_limit: u64,

    /// The most that it pays for a unit of gas on L2, in gwei.
    #[arg(long, value_name = "GWEI", default_value_t = 10, requires = "to")]
    max_fee: u64,

    /// Its nonce: how many transactions the account has sent on L2. Asked of `--rpc` where not given.
    #[arg(long, value_name = "N", requires = "to", required_unless_present_any = ["raw", "rpc"])]
    nonce: Option<u64>,

    /// JSON-RPC of L2.
    #[arg(long, value_name = "URL", requires = "to")]
    rpc: Option<Url>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Queues the transaction, and returns once L1 has included that.
pub(crate) async fn run(args: ForceArgs) -> Result<()> {
    let rollup = args.rollup.contract().await?;
    let l1_chain = rollup.client().chain_id().await.wrap_err("the L1 does not answer")?;
    let signer = args.key.load(l1_chain).await?;
    let chain_id = rollup.l2_chain_id().await.wrap_err("cannot read the contract")?;
    let raw = match (&args.raw, args.to) {
        (Some(raw), _) => raw.clone(),
        (None, Some(to)) => made(&args, &signer, chain_id, to).await?,
        (None, None) => bail!("give a transaction with --raw, or a recipient with --to"),
    };
    let tx = checked(&raw, chain_id)?;
    let (index, receipt) =
        rollup.force(&signer, raw).await.map_err(|error| super::failed(error, "queued"))?;
    let block = receipt.block_number.unwrap_or_default();
    let due = block.saturating_add(rollup.inclusion_window().await?);
    if args.json {
        println!(
            "{}",
            json!({
                "index": index, "tx": tx.hash(), "sender": tx.sender(), "l1_tx": receipt.transaction_hash,
                "l1_block": block, "due_at_l1_block": due,
            })
        );
    } else {
        println!(
            "transaction {} of {} is entry {index} of the queue (L1 block {block}). L2 takes it once L1 has confirmed that; after L1 \
             block {due} the contract takes no batch without it. It is passed over if it is not valid when its turn comes",
            tx.hash(),
            tx.sender()
        );
    }
    Ok(())
}

/// Signs the transaction that the arguments describe.
async fn made(args: &ForceArgs, signer: &L1Signer, chain_id: u64, to: Address) -> Result<Bytes> {
    let nonce = match (args.nonce, &args.rpc) {
        (Some(nonce), _) => nonce,
        (None, Some(url)) => super::l2(url)?.nonce(signer.address()).await.wrap_err("--rpc")?,
        (None, None) => bail!("give --nonce, or a node of L2 to ask with --rpc"),
    };
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: args.gas_limit,
        max_fee_per_gas: u128::from(args.max_fee) * 1_000_000_000,
        max_priority_fee_per_gas: 0,
        to: TxKind::Call(to),
        value: amount::ether(&args.amount)?,
        access_list: Default::default(),
        input: args.data.clone(),
    };
    Ok(sign_transaction(signer, tx).await?)
}

/// The transaction, if it is one that this chain could take.
fn checked(raw: &Bytes, chain_id: u64) -> Result<RecoveredTx> {
    let tx = RecoveredTx::decode(raw.clone()).wrap_err("not a signed transaction")?;
    ensure!(!tx.tx().is_deposit(), "a deposit is made with `millrace deposit`");
    let Some(found) = tx.tx().chain_id() else {
        bail!(
            "the transaction names no chain (EIP-155), so it is not taken: sign it for {chain_id}"
        );
    };
    ensure!(
        found == chain_id,
        "the transaction is for chain {found}, and this is the rollup {chain_id}"
    );
    let gas = tx.tx().gas_limit();
    ensure!(
        gas <= MAX_FORCED_GAS,
        "the transaction's gas limit is {gas}; of forced transactions it may be {MAX_FORCED_GAS} at most"
    );
    Ok(tx)
}
