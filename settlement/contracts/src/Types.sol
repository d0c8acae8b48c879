// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// @notice What a batch says about itself.
struct BatchHeader {
    /// Position in the sequence of posted batches, from 1.
    uint64 number;
    /// First L2 block in the batch.
    uint64 firstBlock;
    /// Last L2 block in the batch, inclusive.
    uint64 lastBlock;
    /// Number of deposits that L2 has consumed once the batch is applied.
    uint64 depositsEnd;
    /// `depositAccumulator[depositsEnd]`: the batch was built over these deposits and not over others.
    bytes32 depositsHash;
    /// Digest of the batch's bytes, as the batch codec defines it.
    bytes32 digest;
    /// Where the bytes are: one of the `DA_` constants.
    uint8 daKind;
}

/// @notice The result of a batch, as the committer derived and re-executed it.
struct Commitment {
    /// Number of the batch.
    uint64 number;
    /// Number of the batch whose commitment came directly before, 0 if this is the first one.
    uint64 previous;
    /// `batchHashes[number]`.
    bytes32 batchHash;
    /// First L2 block of the batch.
    uint64 firstBlock;
    /// Last L2 block of the batch, inclusive.
    uint64 lastBlock;
    /// Hash of `lastBlock`.
    bytes32 lastBlockHash;
    /// State root after `lastBlock`.
    bytes32 stateRoot;
    /// Merkle root over the L2-to-L1 messages of this batch's blocks; zero if there are none.
    bytes32 messageRoot;
    /// L1 timestamp, in seconds, at which the commitment was made.
    uint64 committedAt;
    /// L1 timestamp, in seconds, from which on it is final: as the verifier says, and never before an earlier
    /// commitment.
    uint64 finalAt;
}

/// @notice A message from L2, as `MessagePasser` records it.
struct Message {
    /// Number of messages that L2 sent before it.
    uint64 nonce;
    /// Who sent it on L2.
    address sender;
    /// Whom L1 calls with it.
    address target;
    /// Wei that the call brings along.
    uint256 value;
    /// Gas that the call has, at least.
    uint64 gasLimit;
    /// Input of the call.
    bytes data;
}
