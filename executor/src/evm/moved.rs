//! Precompiles at other addresses, or nowhere: for simulations.

use std::fmt;

use alloy_primitives::{
    Address,
    map::{AddressMap, AddressSet},
};
use revm::{
    context::{Cfg, ContextTr},
    handler::{EthPrecompiles, PrecompileProvider},
    interpreter::{CallInputs, InterpreterResult},
    primitives::hardfork::SpecId,
};

/// The precompiles of a hardfork, some of them moved.
pub(crate) struct MovedPrecompiles {
    inner: EthPrecompiles,
    /// By the new address, the precompile's own.
    moved: AddressMap<Address>,
    /// Where there is none any more.
    gone: AddressSet,
    warm: AddressSet,
}

impl MovedPrecompiles {
    pub(crate) fn new(spec: SpecId) -> Self {
        let inner = EthPrecompiles::new(spec);
        let warm = inner.warm_addresses().clone();
        Self { inner, moved: AddressMap::default(), gone: AddressSet::default(), warm }
    }

    /// Whether there is a precompile of the hardfork's at an address.
    pub(crate) fn is_original(&self, address: &Address) -> bool {
        self.inner.contains(address)
    }

    /// Where the account is replaced, the precompile is no more.
    pub(crate) fn remove(&mut self, address: Address) {
        self.gone.insert(address);
    }

    /// Puts the precompile of an address to another one; `false` if another was put there before.
    pub(crate) fn put(&mut self, address: Address, to: Address) -> bool {
        self.warm.insert(to);
        self.moved.insert(to, address).is_none()
    }
}

impl<C: ContextTr<Cfg: Cfg<Spec = SpecId>>> PrecompileProvider<C> for MovedPrecompiles {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        PrecompileProvider::<C>::set_spec(&mut self.inner, spec)
    }

    fn run(
        &mut self,
        context: &mut C,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        let address = inputs.bytecode_address;
        match self.moved.get(&address) {
            Some(original) => {
                let inputs = CallInputs { bytecode_address: *original, ..inputs.clone() };
                self.inner.run(context, &inputs)
            }
            None if self.gone.contains(&address) => Ok(None),
            None => self.inner.run(context, inputs),
        }
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}

impl fmt::Debug for MovedPrecompiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MovedPrecompiles")
            .field("moved", &self.moved)
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}
