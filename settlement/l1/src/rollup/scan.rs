//! Reading the contract's logs in pieces that the node accepts.

use std::collections::BTreeMap;

use alloy::{
    eips::BlockNumHash,
    primitives::{B256, BloomInput},
    rpc::types::{Filter, Header, Log},
};
use futures::{StreamExt, stream};
use millrace_proto::PostedBatch;
use tracing::debug;

use super::{EventSet, RollupContract, RollupEvent, events, range::is_too_much};
use crate::{L1Block, L1Error};

/// Blocks that are read at the same time, where they are read one by one.
const AT_ONCE: usize = 16;

impl RollupContract {
    /// The contract's events in the L1 blocks `from..=to`, in L1's order.
    ///
    /// Reads as many blocks at a time as [`crate::L1Config::log_range`] says, and fewer for as long as the node finds that too
    /// much. A reorg while it reads can mix two chains: read only blocks that are deep enough, or use [`crate::L1Follower`].
    pub async fn events(&self, from: u64, to: u64) -> Result<Vec<RollupEvent>, L1Error> {
        self.events_of(EventSet::All, from, to).await
    }

    /// Looks through the contract's events in stretches, from L1's head back, as what is looked for was posted lately. Ends when
    /// `enough` says so, or at the contract's deployment with `false`.
    pub async fn search_back(
        &self,
        mut enough: impl FnMut(Vec<RollupEvent>) -> bool + Send,
    ) -> Result<bool, L1Error> {
        let client = self.client();
        let deployed = self.deployed_at().await?;
        let step = client.options().log_range.max(1);
        let mut to = client.head().await?.number;
        loop {
            let from = to.saturating_sub(step - 1).max(deployed);
            if enough(self.events(from, to).await?) {
                return Ok(true);
            }
            if from <= deployed {
                return Ok(false);
            }
            to = from - 1;
        }
    }

    /// The contract's records of the batches `first..=last`, in order.
    ///
    /// # Errors
    /// [`L1Error::Inconsistent`] if the node does not have the events of all of them.
    pub async fn posted(&self, first: u64, last: u64) -> Result<Vec<PostedBatch>, L1Error> {
        let wanted =
            usize::try_from(last.saturating_sub(first)).unwrap_or(usize::MAX).saturating_add(1);
        let mut found = BTreeMap::new();
        let collect = |events: Vec<RollupEvent>| {
            for event in events {
                if let RollupEvent::Posted(batch) = event
                    && (first..=last).contains(&batch.header.number)
                {
                    found.insert(batch.header.number, batch);
                }
            }
            found.len() == wanted
        };
        if self.search_back(collect).await? {
            return Ok(found.into_values().collect());
        }
        Err(L1Error::Inconsistent(format!(
            "the contract counts batches {first} to {last}, the node has events of {} of them",
            found.len()
        )))
    }

    pub(crate) async fn events_of(
        &self,
        set: EventSet,
        from: u64,
        to: u64,
    ) -> Result<Vec<RollupEvent>, L1Error> {
        let mut events = Vec::new();
        let mut next = from;
        while next <= to {
            let (logs, last) = self.logs_from(set.topics(), next, to).await?;
            let found = self.decode(logs).await?;
            if let Some(event) =
                found.iter().find(|event| !(next..=last).contains(&event.l1().block.number))
            {
                let problem = format!(
                    "an event in block {}, and was asked for those in blocks {next} to {last}",
                    event.l1().block.number
                );
                return Err(self.client.unproven_here(problem).await);
            }
            events.extend(found);
            next = last.saturating_add(1);
        }
        Ok(events)
    }

    /// The events of one block, asked for by hash: a node that does not have the block says so instead of answering
    /// with nothing.
    pub(crate) async fn events_in(
        &self,
        set: EventSet,
        block: BlockNumHash,
    ) -> Result<Vec<RollupEvent>, L1Error> {
        let filter = self.filter(set.topics()).at_block_hash(block.hash);
        let events = self.decode(self.client.logs(&filter).await?).await?;
        if events.iter().any(|event| event.l1().block != block) {
            return Err(L1Error::Inconsistent(format!(
                "logs of another block than {}",
                block.hash
            )));
        }
        Ok(events)
    }

    /// The events of one block, as its header commits to them: none if its bloom rules them out, or else those in its receipts.
    pub(crate) async fn proven_events(
        &self,
        set: EventSet,
        header: &Header,
    ) -> Result<Vec<RollupEvent>, L1Error> {
        let topics = set.topics();
        let bloom = &header.logs_bloom;
        let has = |input: &[u8]| bloom.contains_input(BloomInput::Raw(input));
        if !has(self.address.as_slice()) || !topics.iter().any(|topic| has(topic.as_slice())) {
            return Ok(Vec::new());
        }
        let receipts = self.client.receipts_of(header).await?;
        let receipts = receipts.ok_or_else(|| L1Error::BlockMissing(header.hash.to_string()))?;
        let logs = receipts.iter().flat_map(|receipt| {
            receipt.logs().iter().map(|log| (receipt.transaction_hash, log.inner.clone()))
        });
        let logs = (0..).zip(logs).map(|(index, (transaction, inner))| Log {
            inner,
            block_hash: Some(header.hash),
            block_number: Some(header.number),
            block_timestamp: Some(header.timestamp),
            transaction_hash: Some(transaction),
            transaction_index: None,
            log_index: Some(index),
            removed: false,
        });
        let of_set = |log: &Log| log.topic0().is_some_and(|topic| topics.contains(topic));
        self.decode(logs.filter(of_set).collect()).await
    }

    /// The contract's events in the L1 blocks `from..=to`, as each block's header commits to them, and the last of these blocks. Each is the parent of the next,
    /// and `parent`, if given, is the first one's. Takes a request a block at least: where the contract's state is proved, [`Self::events`] do.
    ///
    /// # Errors
    /// [`L1Error::Inconsistent`] if blocks do not join, and [`L1Error::Unproven`] if they do not hold what the node says.
    pub async fn events_by_block(
        &self,
        parent: Option<B256>,
        from: u64,
        to: u64,
    ) -> Result<(Vec<RollupEvent>, L1Block), L1Error> {
        self.events_by_block_of(EventSet::All, parent, from, to).await
    }

    pub(crate) async fn events_by_block_of(
        &self,
        set: EventSet,
        parent: Option<B256>,
        from: u64,
        to: u64,
    ) -> Result<(Vec<RollupEvent>, L1Block), L1Error> {
        let read = async |number: u64| {
            let header = self.client.header(number.into()).await?;
            let header = header.ok_or_else(|| L1Error::BlockMissing(number.to_string()))?;
            let events = self.proven_events(set, &header).await?;
            Ok::<_, L1Error>((L1Block::from(&header), events))
        };
        let mut blocks = stream::iter(from..=to).map(read).buffered(AT_ONCE);
        let (mut events, mut last, mut before) = (Vec::new(), None, parent);
        for number in from..=to {
            let Some(read) = blocks.next().await else { break };
            let (block, found) = read?;
            if block.number != number || before.is_some_and(|hash| hash != block.parent_hash) {
                return Err(L1Error::Inconsistent(format!(
                    "block {number} does not follow the one before it"
                )));
            }
            events.extend(found);
            (last, before) = (Some(block), Some(block.hash));
        }
        let last =
            last.ok_or_else(|| L1Error::InvalidRequest("a range of no blocks".to_owned()))?;
        Ok((events, last))
    }

    /// Logs with one of the topics, from a block on, for as many blocks as the node takes at once. Also returns the last
    /// of these blocks.
    pub(super) async fn logs_from(
        &self,
        topics: Vec<B256>,
        from: u64,
        to: u64,
    ) -> Result<(Vec<Log>, u64), L1Error> {
        loop {
            let last = to.min(from.saturating_add(self.log_range.blocks() - 1));
            let blocks = last.saturating_sub(from).saturating_add(1);
            let filter = self.filter(topics.clone()).from_block(from).to_block(last);
            match self.client.logs(&filter).await {
                Ok(logs) => {
                    self.log_range.taken(blocks);
                    return Ok((logs, last));
                }
                Err(error) if blocks > 1 && is_too_much(&error) => {
                    let next = self.log_range.refused(blocks);
                    debug!(target: "millrace::l1", %error, blocks, next, "eth_getLogs refused; asking for less");
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn filter(&self, topics: Vec<B256>) -> Filter {
        Filter::new().address(self.address).event_signature(topics)
    }

    /// Decodes logs and puts them in order.
    async fn decode(&self, logs: Vec<Log>) -> Result<Vec<RollupEvent>, L1Error> {
        let mut placed = Vec::with_capacity(logs.len());
        for log in logs {
            if log.address() == self.address {
                placed.push((events::place(&log)?, log));
            }
        }
        placed.sort_by_key(|(place, _)| (place.l1.block.number, place.index));

        let mut decoded = Vec::with_capacity(placed.len());
        let mut last_timestamp: Option<(B256, u64)> = None;
        for (place, log) in placed {
            let hash = place.l1.block.hash;
            let timestamp = match (log.block_timestamp, last_timestamp) {
                (Some(timestamp), _) => timestamp,
                (None, Some((known, timestamp))) if known == hash => timestamp,
                (None, _) if !events::needs_timestamp(&log) => 0,
                (None, _) => {
                    let block = self.client.block_by_hash(hash).await?;
                    block.ok_or_else(|| L1Error::BlockMissing(hash.to_string()))?.timestamp
                }
            };
            last_timestamp = (timestamp != 0).then_some((hash, timestamp));
            decoded.extend(events::decode(&log, place.l1, timestamp)?);
        }
        Ok(decoded)
    }
}
