//! Ethereum JSON-RPC.
