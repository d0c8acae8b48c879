// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Commitment} from "./Types.sol";

/// @title IVerifier
/// @notice Decides when a commitment is final, and what has to come with it: nothing but time to object, signatures of
/// independent verifiers, or a validity proof.
interface IVerifier {
    /// @notice Checks what came with a commitment. Called by the rollup contract, for which it has to hold.
    /// @dev Reverts if it is not enough.
    /// @param commitment What is about to be committed; `finalAt` is not known yet and 0.
    /// @param reverts How often commitments were reverted before: a proof that covers it is not good for a second time once
    /// the guardian has taken a commitment back.
    /// @param proof What came with it, in the form that the verifier defines.
    /// @return delay Seconds from now until the commitment is final, in which the guardian can revert it. 0: at once.
    function verify(Commitment calldata commitment, uint32 reverts, bytes calldata proof)
        external
        view
        returns (uint64 delay);

    /// @notice Whether proofs speak for themselves, so that it does not matter who brings a commitment. If not, only the
    /// committer may.
    function anyoneMayCommit() external view returns (bool);
}
