//! Results of precompiles, kept from call to call and from block to block.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, map::AddressSet};
use quick_cache::{Equivalent, sync::Cache};
use revm::{
    context::{Cfg, ContextTr},
    handler::{EthPrecompiles, PrecompileProvider, precompile_output_to_interpreter_result},
    interpreter::{CallInputs, InstructionResult, InterpreterResult},
    precompile::PrecompileOutput,
    primitives::hardfork::SpecId,
};

/// What precompiles gave, by all that it depends on. The same signature is recovered again when its transaction is run again, and when
/// several transactions bring the same permit or the same price.
#[derive(Debug)]
pub(super) struct PrecompileCache(Cache<Call, Kept>);

/// A call that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Call {
    spec: SpecId,
    address: Address,
    input: Bytes,
}

/// The same without a copy of its input.
#[derive(Hash)]
struct CallRef<'a> {
    spec: SpecId,
    address: Address,
    input: &'a [u8],
}

#[derive(Debug, Clone)]
struct Kept {
    gas_used: u64,
    output: Bytes,
}

impl PrecompileCache {
    /// How many results are kept, the most useful ones.
    const ENTRIES: usize = 1 << 14;
    /// Calls with more input are not kept: so many bytes of input at most make tens of megabytes altogether.
    const LONGEST: usize = 1 << 10;

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

impl Default for PrecompileCache {
    fn default() -> Self {
        Self(Cache::new(Self::ENTRIES))
    }
}

impl Equivalent<Call> for CallRef<'_> {
    fn equivalent(&self, call: &Call) -> bool {
        self.spec == call.spec && self.address == call.address && *self.input == *call.input
    }
}

/// Ethereum's precompiles, run unless their result is known.
#[derive(Debug)]
pub(super) struct KeptPrecompiles {
    eth: EthPrecompiles,
    cache: Arc<PrecompileCache>,
}

impl KeptPrecompiles {
    pub(super) fn new(spec: SpecId, cache: Arc<PrecompileCache>) -> Self {
        Self { eth: EthPrecompiles::new(spec), cache }
    }
}

/// SHA-256, RIPEMD-160 and the identity cost less than looking for what they gave.
fn is_cheap(address: &Address) -> bool {
    let [zeros @ .., last] = address.0.0;
    zeros == [0; 19] && matches!(last, 2..=4)
}

impl<C: ContextTr<Cfg: Cfg<Spec = SpecId>>> PrecompileProvider<C> for KeptPrecompiles {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        PrecompileProvider::<C>::set_spec(&mut self.eth, spec)
    }

    fn run(
        &mut self,
        context: &mut C,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        let address = inputs.bytecode_address;
        if !self.eth.contains(&address) {
            return Ok(None);
        }
        let bytes = inputs.input.as_bytes(context);
        if is_cheap(&address) || bytes.len() > PrecompileCache::LONGEST {
            drop(bytes);
            return self.eth.run(context, inputs);
        }
        let spec = self.eth.spec;
        let kept = self.cache.0.get(&CallRef { spec, address, input: &bytes });
        if let Some(Kept { gas_used, output }) = kept
            && gas_used <= inputs.gas_limit
        {
            let output = PrecompileOutput::new(gas_used, output, inputs.reservoir);
            return Ok(Some(precompile_output_to_interpreter_result(output, inputs.gas_limit)));
        }
        let input = Bytes::copy_from_slice(&bytes);
        drop(bytes);
        let result = self.eth.run(context, inputs)?;
        if let Some(result) = &result
            && result.result == InstructionResult::Return
        {
            let gas_used = inputs.gas_limit - result.gas.remaining();
            let kept = Kept { gas_used, output: result.output.clone() };
            self.cache.0.insert(Call { spec, address, input }, kept);
        }
        Ok(result)
    }

    fn warm_addresses(&self) -> &AddressSet {
        self.eth.warm_addresses()
    }

    fn contains(&self, address: &Address) -> bool {
        self.eth.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{KECCAK256_EMPTY, U256, address, hex};
    use revm::{
        Context, MainContext,
        bytecode::Bytecode,
        interpreter::{CallInput, CallScheme, CallValue},
    };

    use super::*;

    const ECRECOVER: Address = address!("0000000000000000000000000000000000000001");
    const MODEXP: Address = address!("0000000000000000000000000000000000000005");

    fn call(address: Address, input: &[u8], gas_limit: u64) -> CallInputs {
        CallInputs {
            input: CallInput::Bytes(Bytes::copy_from_slice(input)),
            return_memory_offset: 0..0,
            gas_limit,
            reservoir: 0,
            bytecode_address: address,
            known_bytecode: (KECCAK256_EMPTY, Bytecode::default()),
            target_address: address,
            caller: Address::ZERO,
            value: CallValue::Transfer(U256::ZERO),
            scheme: CallScheme::Call,
            is_static: false,
            charged_new_account_state_gas: false,
        }
    }

    /// Runs a call with the cache and without; that has to be the same.
    fn run(cache: &Arc<PrecompileCache>, spec: SpecId, inputs: &CallInputs) -> InterpreterResult {
        let mut context = Context::mainnet();
        let mut kept = KeptPrecompiles::new(spec, cache.clone());
        let got = kept.run(&mut context, inputs).expect("it runs").expect("it is one");
        let expected = EthPrecompiles::new(spec).run(&mut context, inputs);
        assert_eq!(got, expected.expect("it runs").expect("it is one"));
        got
    }

    /// The hash, `v`, `r` and `s` of a signature.
    fn signature() -> Vec<u8> {
        let hash = hex!("18c547e4f7b0f325ad1e56f57e26c745b09a3e503d86e00e5255ff7f715d3d1c");
        let r = hex!("73b1693892219d736caba55bdb67216e485557ea6b6af75f37096c9aa6a5a75f");
        let s = hex!("eeb940b1d03b21e36b0e47e79769f095fe2ab855bd91e3a38756b7d75a9c4549");
        [hash, U256::from(28).to_be_bytes(), r, s].concat()
    }

    #[test]
    fn what_succeeded_is_kept_by_all_that_it_depends_on() {
        let cache = Arc::<PrecompileCache>::default();
        for _ in 0..2 {
            let result = run(&cache, SpecId::OSAKA, &call(ECRECOVER, &signature(), 5_000));
            assert_eq!((result.output.len(), result.gas.remaining()), (32, 2_000));
            assert_eq!(cache.0.len(), 1);
        }
        // Gas that is too little for what is kept.
        let result = run(&cache, SpecId::OSAKA, &call(ECRECOVER, &signature(), 2_999));
        assert_eq!(result.result, InstructionResult::PrecompileOOG);
        // Another input, and the same under rules that charge otherwise.
        let mut other = signature();
        other[0] ^= 1;
        run(&cache, SpecId::OSAKA, &call(ECRECOVER, &other, 5_000));
        assert_eq!(cache.0.len(), 2);
        let power =
            [[1_u64; 3].map(|size| U256::from(size).to_be_bytes::<32>()).concat(), vec![3; 3]];
        for spec in [SpecId::BYZANTIUM, SpecId::BERLIN, SpecId::OSAKA] {
            run(&cache, spec, &call(MODEXP, &power.concat(), 50_000));
        }
        assert_eq!(cache.0.len(), 5);
    }

    #[test]
    fn what_is_kept_is_not_run_again() {
        let cache = Arc::<PrecompileCache>::default();
        let (spec, address) = (SpecId::OSAKA, ECRECOVER);
        let known = Call { spec, address, input: signature().into() };
        cache.0.insert(known, Kept { gas_used: 7, output: Bytes::from_static(b"kept") });
        let mut kept = KeptPrecompiles::new(SpecId::OSAKA, cache);
        let inputs = call(ECRECOVER, &signature(), 10);
        let result = kept.run(&mut Context::mainnet(), &inputs).expect("it runs");
        let result = result.expect("it is one");
        assert_eq!((result.output.as_ref(), result.gas.remaining()), (&b"kept"[..], 3));
    }

    #[test]
    fn failures_and_long_and_cheap_calls_are_not_kept() {
        let cache = Arc::<PrecompileCache>::default();
        run(&cache, SpecId::OSAKA, &call(ECRECOVER, &signature(), 1));
        run(&cache, SpecId::OSAKA, &call(ECRECOVER, &[0; 2_000], 5_000));
        for last in 2..=4 {
            run(&cache, SpecId::OSAKA, &call(Address::with_last_byte(last), b"abc", 5_000));
        }
        assert_eq!(cache.0.len(), 0);
    }
}
