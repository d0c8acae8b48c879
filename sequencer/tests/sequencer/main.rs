//! The sequencer on the real executor and the real order log.

mod admission;
mod adopt;
mod blocks;
mod crashes;
mod data_fee;
mod eviction;
mod faults;
mod inbox;
mod lifecycle;
mod order;
mod outage;
mod overdue;
mod pending;
mod preconfirmations;
mod recovery;
mod reorgs;
mod support;
