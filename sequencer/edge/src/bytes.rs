//! Bytes of requests that are not here whole, or not answered: bounded over all connections, and of each peer.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    calls::{Caller, Shed},
    connection::ConnectionInfo,
    gate::BytesPlace,
};

/// The room that the bytes of one request take. Gives it back when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct HeldBytes {
    info: ConnectionInfo,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    places: Option<BytesPlace>,
    refused: Option<Shed>,
}

impl HeldBytes {
    pub(crate) fn new(info: ConnectionInfo) -> Self {
        Self { info, state: Arc::default() }
    }

    /// So many more bytes have arrived.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn grow(&self, bytes: usize) -> Result<(), Shed> {
        let mut state = self.state.lock();
        let caller: &Caller = self.info.caller();
        match caller.hold(u32::try_from(bytes).unwrap_or(u32::MAX)) {
            Ok(more) => {
                match &mut state.places {
                    Some(places) => places.merge(more),
                    places => *places = Some(more),
                }
                Ok(())
            }
            Err(why) => {
                state.refused = Some(why);
                Err(why)
            }
        }
    }

    /// They are held no more.
    pub fn clear(&self) {
        self.state.lock().places = None;
    }

    /// Why some of them found no room, if that is so.
    pub fn refused(&self) -> Option<Shed> {
        self.state.lock().refused
    }
}
