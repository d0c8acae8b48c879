//! Follows what the sequencer tells: frames, blocks, and how far they are settled.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{B256, TxHash};
use eyre::{Result, WrapErr, eyre};
use millrace_proto::grpc::{
    Transport,
    pb::{self, sequencer_client::SequencerClient},
};
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use super::{ledger::Ledger, told};

/// How often the heads are asked for, and so how exact the latencies of later stages are.
const POLL: Duration = Duration::from_millis(50);

/// Tasks that follow; they end with this.
pub(super) struct Watch {
    tasks: JoinSet<Result<()>>,
}

impl Watch {
    /// Follows from a block on.
    pub(super) async fn start(
        client: &SequencerClient<Transport>,
        ledger: &Arc<Ledger>,
        from: u64,
    ) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let frames = open_frames(client).await?;
        if let Some(frames) = frames {
            tasks.spawn(follow_frames(client.clone(), ledger.clone(), frames));
        }
        let request = pb::SubscribeBlocksRequest { from };
        let blocks = client.clone().subscribe_blocks(request).await.map_err(told)?;
        let (mut blocks, sealed) = (blocks.into_inner(), ledger.clone());
        tasks.spawn(async move {
            while let Some(block) = blocks.message().await.map_err(told)? {
                sealed.sealed(block.number, hashes(&block.transactions));
            }
            Err(eyre!("the stream of blocks has ended"))
        });
        let (mut client, ledger) = (client.clone(), ledger.clone());
        tasks.spawn(async move {
            loop {
                // One that fails only makes what it would have told later.
                if let Ok(status) = client.get_status(pb::GetStatusRequest {}).await {
                    let status = status.into_inner();
                    let number = |head: Option<pb::BlockRef>| head.map_or(0, |head| head.number);
                    ledger.settled(number(status.safe_head), number(status.finalized_head));
                }
                tokio::time::sleep(POLL).await;
            }
        });
        Ok(Self { tasks })
    }

    /// Why following ended; pending while it goes on.
    pub(super) async fn ended(&mut self) -> eyre::Report {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(()))) | None => eyre!("nothing is followed"),
        }
    }
}

/// `None` where nobody tells of frames.
async fn open_frames(
    client: &SequencerClient<Transport>,
) -> Result<Option<Streaming<pb::Preconfirmation>>> {
    let request = pb::SubscribePreconfirmationsRequest { state_diff: false };
    match client.clone().subscribe_preconfirmations(request).await {
        Ok(frames) => Ok(Some(frames.into_inner())),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(told(status)).wrap_err("frames are not told"),
    }
}

/// Goes on with new streams: frames that are missed only leave latencies unknown.
async fn follow_frames(
    client: SequencerClient<Transport>,
    ledger: Arc<Ledger>,
    mut frames: Streaming<pb::Preconfirmation>,
) -> Result<()> {
    loop {
        match frames.message().await {
            Ok(Some(frame)) => ledger.preconfirmed(hashes(&frame.transactions)),
            ended => {
                let why = ended
                    .err()
                    .map_or("the stream ended".to_owned(), |status| told(status).to_string());
                ledger.failed(format!("frames: {why}"));
                tokio::time::sleep(POLL).await;
                frames = match open_frames(&client).await? {
                    Some(frames) => frames,
                    None => return Err(eyre!("frames are not told any more")),
                };
            }
        }
    }
}

fn hashes(transactions: &[pb::BlockTransaction]) -> impl Iterator<Item = TxHash> {
    transactions.iter().filter_map(|tx| B256::try_from(&*tx.hash).ok())
}
