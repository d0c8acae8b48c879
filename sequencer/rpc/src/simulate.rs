//! `eth_simulateV1`.

use std::fmt;

use alloy::{
    eips::BlockId,
    rpc::types::{
        Log,
        simulate::{SimCallResult, SimulateError, SimulatePayload, SimulatedBlock as RpcSimulated},
    },
};
use jsonrpsee::{core::async_trait, proc_macros::rpc};
use millrace_proto::{CallStatus, SimulatedBlock, SimulatedCall, SimulationCode, SimulationError};
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    api::Api,
    error::{CallError, revert_message},
    json::{self, RpcBlock},
    reads::single_input,
};

/// Most blocks and calls of a simulation.
const MAX_BLOCKS: usize = 256;
const MAX_CALLS: usize = 10_000;

#[rpc(server, namespace = "eth")]
pub(crate) trait SimulateApi {
    #[method(name = "simulateV1")]
    async fn simulate_v1(
        &self,
        payload: Box<RawValue>,
        block: Option<BlockId>,
    ) -> Result<Vec<RpcSimulated<RpcBlock>>, CallError>;
}

#[async_trait]
impl SimulateApiServer for Api {
    async fn simulate_v1(
        &self,
        payload: Box<RawValue>,
        block: Option<BlockId>,
    ) -> Result<Vec<RpcSimulated<RpcBlock>>, CallError> {
        let payload = parse(&payload)?;
        let full = payload.return_full_transactions;
        let simulate = |at| self.0.executor.simulate(payload.clone(), at);
        let blocks = self.0.read(block, simulate).await.map_err(|error| match error {
            CallError::Executor(error) => CallError::without_block(error),
            other => other,
        })?;
        Ok(blocks.iter().map(|block| simulated(block, full)).collect())
    }
}

/// Parses a payload that is not too large: many calls take few bytes as text, and many parsed.
fn parse(payload: &RawValue) -> Result<SimulatePayload, CallError> {
    let invalid = |error: serde_json::Error| CallError::InvalidParams(error.to_string());
    let Outline { block_state_calls: Shape { blocks, calls } } =
        serde_json::from_str(payload.get()).map_err(invalid)?;
    if blocks == 0 {
        return Err(CallError::InvalidParams("blockStateCalls is empty".to_owned()));
    }
    let too_many = |what: &str, limit: usize| {
        let message = format!("too many {what}, at most {limit}");
        let error = SimulationError { code: SimulationCode::Limit, message };
        Err(CallError::Executor(error.into()))
    };
    if blocks > MAX_BLOCKS {
        return too_many("blocks", MAX_BLOCKS);
    }
    if calls > MAX_CALLS {
        return too_many("calls", MAX_CALLS);
    }
    let mut payload: SimulatePayload = serde_json::from_str(payload.get()).map_err(invalid)?;
    for call in payload.block_state_calls.iter_mut().flat_map(|block| &mut block.calls) {
        single_input(call)?;
    }
    Ok(payload)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    block_state_calls: Shape,
}

/// How many blocks there are, and calls in all of them.
#[derive(Default)]
struct Shape {
    blocks: usize,
    calls: usize,
}

#[derive(Deserialize)]
struct BlockOutline {
    #[serde(default)]
    calls: Count,
}

#[derive(Default)]
struct Count(usize);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |shape: &mut Self, block: BlockOutline| {
            shape.blocks += 1;
            shape.calls += block.calls.0;
        };
        deserializer.deserialize_seq(Fold(add, std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |count: &mut Self, _: IgnoredAny| count.0 += 1;
        deserializer.deserialize_seq(Fold(add, std::marker::PhantomData))
    }
}

/// Goes through a list without keeping it.
struct Fold<F, T, A>(F, std::marker::PhantomData<fn() -> (T, A)>);

impl<'de, F, T, A> Visitor<'de> for Fold<F, T, A>
where
    F: Fn(&mut A, T),
    T: Deserialize<'de>,
    A: Default,
{
    type Value = A;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<A, S::Error> {
        let mut all = A::default();
        while let Some(item) = seq.next_element()? {
            self.0(&mut all, item);
        }
        Ok(all)
    }
}

fn simulated(simulated: &SimulatedBlock, full: bool) -> RpcSimulated<RpcBlock> {
    let SimulatedBlock { block, calls } = simulated;
    let mut logs = json::logs_at(block, calls.iter().map(|call| &call.logs[..]));
    let results = calls
        .iter()
        .zip(&block.transactions)
        .map(|(call, _)| result(call, logs.by_ref().take(call.logs.len()).collect()));
    RpcSimulated { calls: results.collect(), inner: json::block(block, full) }
}

fn result(call: &SimulatedCall, logs: Vec<Log>) -> SimCallResult {
    let SimulatedCall { outcome, max_used_gas, .. } = call;
    let error = match &outcome.status {
        CallStatus::Success => None,
        CallStatus::Reverted => Some(SimulateError {
            code: SimulateError::EXECUTION_REVERTED_CODE,
            message: revert_message(&outcome.output),
            data: Some(outcome.output.clone()),
        }),
        CallStatus::Halted(why) => Some(SimulateError {
            code: SimulateError::VM_EXECUTION_ERROR_CODE,
            message: format!("vm execution error: {why}"),
            data: None,
        }),
    };
    SimCallResult {
        return_data: outcome.output.clone(),
        logs,
        gas_used: outcome.gas_used,
        max_used_gas: Some(*max_used_gas),
        status: error.is_none(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    fn parsed(text: &str) -> Result<SimulatePayload, CallError> {
        parse(&RawValue::from_string(text.to_owned()).expect("JSON"))
    }

    #[test]
    fn what_is_too_much_is_counted_before_it_is_parsed() {
        let limit = |result: Result<SimulatePayload, CallError>| {
            let error = result.expect_err("refused").to_string();
            assert!(error.starts_with("too many"), "{error}");
        };
        limit(parsed(&format!(r#"{{"blockStateCalls":[{}]}}"#, vec!["{}"; 257].join(","))));
        let calls = vec!["{}"; 6_000].join(",");
        let block = format!(r#"{{"calls":[{calls}]}}"#);
        limit(parsed(&format!(r#"{{"blockStateCalls":[{block},{block}]}}"#)));
        let payload = parsed(&format!(r#"{{"blockStateCalls":[{block}]}}"#)).expect("it is small");
        assert_eq!(payload.block_state_calls[0].calls.len(), 6_000);
        assert!(parsed(r#"{"blockStateCalls":[]}"#).is_err());
        assert!(parsed("{}").is_err());
        let null = to_raw_value(&()).expect("null");
        assert!(parse(&null).is_err());
    }
}
