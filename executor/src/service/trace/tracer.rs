//! Which tracer the options name, and what it records.

use std::{num::NonZeroU64, time::Duration};

use alloy::rpc::types::trace::geth::{
    CallConfig, GethDebugBuiltInTracerType as BuiltIn, GethDebugTracerConfig, GethDebugTracerType,
    GethDebugTracingOptions, PreStateConfig, mux::MuxConfig,
};
use millrace_proto::ExecutorError;
use revm_inspectors::tracing::DebugInspector;

/// What a tracer records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Costs {
    /// Each step.
    pub(super) steps: Option<Steps>,
    /// Each call with its data, so many times.
    pub(super) calls: usize,
    /// Logs.
    pub(super) logs: bool,
    /// Accounts with their slots.
    pub(super) accounts: bool,
    /// And with their code.
    pub(super) codes: bool,
}

/// What is recorded of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) stack: bool,
    pub(super) memory: bool,
    pub(super) storage: bool,
    pub(super) return_data: bool,
    /// Of so many steps.
    pub(super) limit: Option<NonZeroU64>,
}

/// The tracer, what it records, and the time that it is given, if the options say so.
///
/// # Errors
/// [`ExecutorError::InvalidRequest`] for tracers that are not there, and options that are not understood.
pub(super) fn tracer(
    mut options: GethDebugTracingOptions,
) -> Result<(DebugInspector, Costs, Option<Duration>), ExecutorError> {
    let timeout = options.timeout.as_deref().map(duration).transpose()?;
    let mut costs = Costs::default();
    match &options.tracer {
        None => costs.steps = Some(steps(&options)),
        Some(name) if name.as_str().is_empty() => costs.steps = Some(steps(&options)),
        Some(GethDebugTracerType::BuiltInTracer(BuiltIn::MuxTracer)) => {
            let MuxConfig(mut tracers) = parse(options.tracer_config.clone().into_mux_config())?;
            for (name, config) in &mut tracers {
                let name = built_in(name)?;
                // The crate wants them where there are some to be had, and nowhere else.
                *config = match name {
                    BuiltIn::FourByteTracer | BuiltIn::NoopTracer => None,
                    _ => Some(
                        config
                            .take()
                            .filter(|config| !config.is_null())
                            .unwrap_or_else(|| GethDebugTracerConfig(serde_json::json!({}))),
                    ),
                };
                costs.add(name, config.clone().unwrap_or_default())?;
            }
            options.tracer_config = MuxConfig(tracers).into();
        }
        Some(name) => costs.add(built_in(name)?, options.tracer_config.clone())?,
    }
    let inspector = DebugInspector::new(options).map_err(|error| invalid(error.to_string()))?;
    Ok((inspector, costs, timeout))
}

impl Costs {
    fn add(&mut self, name: BuiltIn, config: GethDebugTracerConfig) -> Result<(), ExecutorError> {
        match name {
            BuiltIn::CallTracer => {
                let config: CallConfig = parse(config.into_call_config())?;
                self.calls += 1;
                self.logs |= config.with_log.unwrap_or_default();
            }
            BuiltIn::FlatCallTracer => self.calls += 1,
            BuiltIn::PreStateTracer => {
                let config: PreStateConfig = parse(config.into_pre_state_config())?;
                self.accounts = true;
                self.codes |= config.code_enabled();
            }
            BuiltIn::FourByteTracer | BuiltIn::NoopTracer => {}
            BuiltIn::MuxTracer | BuiltIn::Erc7562Tracer | BuiltIn::StateGasTracer => {
                let name = GethDebugTracerType::BuiltInTracer(name);
                return Err(invalid(format!("{} cannot be used here; {KNOWN}", name.as_str())));
            }
        }
        Ok(())
    }
}

const KNOWN: &str = "tracers are callTracer, flatCallTracer, prestateTracer, 4byteTracer, noopTracer and muxTracer; without one, the trace is struct logs";

fn built_in(name: &GethDebugTracerType) -> Result<BuiltIn, ExecutorError> {
    match name {
        GethDebugTracerType::BuiltInTracer(name) => Ok(*name),
        GethDebugTracerType::JsTracer(_) => {
            Err(invalid(format!("tracers in JavaScript are not run; {KNOWN}")))
        }
    }
}

fn steps(options: &GethDebugTracingOptions) -> Steps {
    let config = &options.config;
    Steps {
        stack: config.is_stack_enabled(),
        memory: config.is_memory_enabled(),
        storage: config.is_storage_enabled(),
        return_data: config.is_return_data_enabled(),
        limit: config.limit.and_then(NonZeroU64::new),
    }
}

fn parse<T>(config: Result<T, serde_json::Error>) -> Result<T, ExecutorError> {
    config.map_err(|error| invalid(format!("tracerConfig: {error}")))
}

fn invalid(problem: String) -> ExecutorError {
    ExecutorError::InvalidRequest(problem)
}

/// A duration as Go writes it: numbers, whole or not, each with its unit, such as `300ms` and `1m2.5s`.
fn duration(text: &str) -> Result<Duration, ExecutorError> {
    parse_duration(text).ok_or_else(|| {
        invalid(format!("timeout {text:?} is no duration; write it like 500ms, 10s or 1m30s"))
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let next_at = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(next_at);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    Some(total).filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn options(options: Value) -> Result<(Costs, Option<Duration>), ExecutorError> {
        let options = serde_json::from_value(options).expect("it parses");
        tracer(options).map(|(_, costs, timeout)| (costs, timeout))
    }

    #[test]
    fn timeouts_are_gos() {
        for (text, expected) in [
            ("5s", Duration::from_secs(5)),
            ("300ms", Duration::from_millis(300)),
            ("1m2.5s", Duration::from_millis(62_500)),
            ("1h", Duration::from_secs(3600)),
            ("7us", Duration::from_micros(7)),
        ] {
            assert_eq!(parse_duration(text), Some(expected), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-5s", "5d", "1e9h", "1..5s", &"9".repeat(400)] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration(&format!("{}h", "9".repeat(400))), None);
    }

    #[test]
    fn what_is_recorded_follows_from_the_options() {
        let (costs, timeout) = options(
            json!({ "enableMemory": true, "disableStack": true, "limit": 7, "timeout": "9s" }),
        )
        .expect("struct logs");
        let steps = Steps {
            stack: false,
            memory: true,
            storage: true,
            return_data: false,
            limit: NonZeroU64::new(7),
        };
        assert_eq!((costs.steps, costs.calls), (Some(steps), 0));
        assert_eq!(timeout, Some(Duration::from_secs(9)));
        let mux = json!({
            "tracer": "muxTracer",
            "tracerConfig": { "callTracer": { "withLog": true }, "prestateTracer": null, "4byteTracer": {} }
        });
        let (costs, _) = options(mux).expect("three tracers");
        assert_eq!(costs, Costs { steps: None, calls: 1, logs: true, accounts: true, codes: true });
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for (asked, expected) in [
            (json!({ "tracer": "{step: function() {}}" }), "JavaScript"),
            (json!({ "tracer": "erc7562Tracer" }), "cannot be used here"),
            (json!({ "tracer": "callTracer", "tracerConfig": { "withLog": 1 } }), "tracerConfig"),
            (json!({ "timeout": "soon" }), "no duration"),
            (
                json!({ "tracer": "muxTracer", "tracerConfig": { "muxTracer": {} } }),
                "cannot be used here",
            ),
        ] {
            let error = options(asked.clone()).expect_err("refused");
            assert!(error.to_string().contains(expected), "{asked}: {error}");
        }
    }
}
