// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IVerifier} from "./IVerifier.sol";
import {Commitment} from "./Types.sol";

/// @title ChallengeWindow
/// @notice Believes the committer, unless the guardian objects within a time.
contract ChallengeWindow is IVerifier {
    /// @notice Seconds from a commitment to its finality.
    uint64 public immutable challengeWindow;

    /// @notice A commitment needs no proof here, and one is given.
    error ProofUnexpected(uint256 length);

    /// @param challengeWindow_ Seconds; 0 makes commitments final at once, which no chain with value should.
    constructor(uint64 challengeWindow_) {
        challengeWindow = challengeWindow_;
    }

    /// @inheritdoc IVerifier
    function verify(Commitment calldata, uint32, bytes calldata proof) external view returns (uint64 delay) {
        if (proof.length != 0) revert ProofUnexpected(proof.length);
        return challengeWindow;
    }

    /// @inheritdoc IVerifier
    function anyoneMayCommit() external pure returns (bool) {
        return false;
    }
}
