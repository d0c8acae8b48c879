//! The suites over a whole chain: the real binary, beside a real L1. One program, since most of their time is waiting.

mod bad_input;
mod bridge;
mod chain;
mod clients;
mod crash;
mod da_away;
mod documents;
mod durability;
mod edge;
mod fees;
mod flood;
mod follow;
mod inclusion;
mod l1_faults;
mod l1_kills;
mod l1_reorgs;
mod l1_trouble;
mod load;
mod metrics;
mod preconfirmations;
mod services;
mod verify_speed;
