// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {ChallengeWindow} from "../src/ChallengeWindow.sol";
import {Rollup} from "../src/Rollup.sol";
import {Commitment} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

contract CommitmentsTest is RollupTest {
    function test_commit_records_and_emits() public {
        _post(1, 10);
        Commitment memory commitment = _commitment(1, 1, 10);
        vm.expectEmit(address(rollup));
        emit Rollup.BatchCommitted(1, commitment.stateRoot, commitment);
        vm.prank(COMMITTER);
        _callCommit(commitment);

        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
        vm.assertEq(rollup.lastCommittedBatch(), 1);
        vm.assertEq(rollup.lastCommittedBlock(), 10);
        vm.assertEq(rollup.batchCount(), 1);
    }

    function test_commit_leaves_the_other_counters_alone() public {
        rollup.depositETH(BOB);
        rollup.depositETH(BOB);
        _post(1, 10);
        _post(11, 20);
        _commit(1, 1, 10);
        vm.assertEq(rollup.depositCount(), 2);
        vm.assertEq(rollup.batchCount(), 2);
        rollup.depositETH(BOB);
        _post(21, 30);
        vm.assertEq(rollup.depositCount(), 3);
        vm.assertEq(rollup.batchCount(), 3);
        vm.assertEq(rollup.lastCommittedBatch(), 1);
        vm.assertEq(rollup.lastCommittedBlock(), 10);
    }

    function test_commit_is_for_the_committer() public {
        _post(1, 10);
        Commitment memory commitment = _commitment(1, 1, 10);
        bytes32 role = rollup.COMMITTER_ROLE();
        address[4] memory others = [BATCHER, GUARDIAN, OWNER, STRANGER];
        for (uint256 i = 0; i < others.length; ++i) {
            _expectMissingRole(others[i], role);
            vm.prank(others[i]);
            _callCommit(commitment);
        }
    }

    function test_commit_wants_the_posted_batch() public {
        _post(1, 10);
        bytes32 posted = rollup.batchHashes(1);
        Commitment memory commitment = _commitment(1, 1, 10);
        commitment.batchHash = keccak256("other");
        _expectRefused(
            commitment, abi.encodeWithSelector(Rollup.BatchHashMismatch.selector, 1, keccak256("other"), posted)
        );
        commitment.batchHash = 0;
        _expectRefused(commitment, abi.encodeWithSelector(Rollup.BatchHashMismatch.selector, 1, bytes32(0), posted));
    }

    function test_commit_wants_a_batch_that_is_posted() public {
        _expectRefused(
            _commitment(1, 1, 10), abi.encodeWithSelector(Rollup.BatchHashMismatch.selector, 1, bytes32(0), bytes32(0))
        );
    }

    function test_numbers_grow() public {
        _expectRefused(_commitment(0, 1, 10), abi.encodeWithSelector(Rollup.BatchNotAfterLastCommitted.selector, 0, 0));
        _post(1, 10);
        _post(11, 20);
        _commit(2, 1, 10);
        _expectRefused(_commitment(2, 11, 20), abi.encodeWithSelector(Rollup.BatchNotAfterLastCommitted.selector, 2, 2));
        _expectRefused(_commitment(1, 11, 20), abi.encodeWithSelector(Rollup.BatchNotAfterLastCommitted.selector, 1, 2));
    }

    function test_blocks_join_the_last_commitment() public {
        _post(1, 10);
        _expectRefused(_commitment(1, 0, 10), abi.encodeWithSelector(Rollup.BlocksNotContiguous.selector, 0, 1));
        _expectRefused(_commitment(1, 2, 10), abi.encodeWithSelector(Rollup.BlocksNotContiguous.selector, 2, 1));
        _commit(1, 1, 10);

        _post(11, 20);
        _expectRefused(_commitment(2, 10, 20), abi.encodeWithSelector(Rollup.BlocksNotContiguous.selector, 10, 11));
        _expectRefused(_commitment(2, 12, 20), abi.encodeWithSelector(Rollup.BlocksNotContiguous.selector, 12, 11));
        _commit(2, 11, 11);
        vm.assertEq(rollup.lastCommittedBlock(), 11);
    }

    function test_the_block_range_is_not_empty() public {
        _post(1, 10);
        _expectRefused(_commitment(1, 1, 0), abi.encodeWithSelector(Rollup.EmptyBlockRange.selector, 1, 0));
    }

    function test_skipped_batches_stay_uncommitted() public {
        _post(1, 10);
        _post(99, 99);
        _post(11, 20);
        Commitment memory first = _commit(1, 1, 10);
        Commitment memory third = _commit(3, 11, 20);
        vm.assertEq(third.previous, 1);
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(first));
        vm.assertEq(rollup.commitmentHash(2), 0);
        vm.assertEq(rollup.commitmentHash(3), _commitmentHash(third));
    }

    function test_a_challenge_window_wants_no_proof() public {
        _post(1, 10);
        Commitment memory commitment = _commitment(1, 1, 10);
        vm.expectRevert(abi.encodeWithSelector(ChallengeWindow.ProofUnexpected.selector, 1));
        vm.prank(COMMITTER);
        _callCommit(commitment, hex"00");
        vm.assertEq(rollup.commitmentHash(1), 0);
        vm.assertFalse(challengeWindow.anyoneMayCommit());
        vm.assertEq(challengeWindow.challengeWindow(), WINDOW);
    }

    // ------------------------------------------------------------- finality

    function test_a_window_of_zero_is_final_at_once() public {
        _choose(new ChallengeWindow(0));
        _post(1, 1);
        Commitment memory commitment = _commitment(1, 1, 1);
        commitment.finalAt = START;
        vm.prank(COMMITTER);
        _callCommit(commitment);
        vm.assertTrue(rollup.isFinal(commitment));
        Commitment memory none;
        vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentIsFinal.selector, 1, START));
        vm.prank(GUARDIAN);
        rollup.revertCommitments(commitment, none);
    }

    function test_another_verifier_leaves_what_stands_its_time() public {
        _post(1, 10);
        Commitment memory commitment = _commit(1, 1, 10);
        _choose(new ChallengeWindow(0));
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
        vm.assertFalse(rollup.isFinal(commitment));
        vm.warp(START + WINDOW);
        vm.assertTrue(rollup.isFinal(commitment));
    }

    /// @dev Or a revert of the earlier one would take a final one along.
    function test_no_commitment_is_final_before_an_earlier_one() public {
        _post(1, 10);
        _post(11, 20);
        _post(21, 30);
        Commitment memory first = _commit(1, 1, 10);
        _choose(new ChallengeWindow(1 minutes));

        vm.warp(START + 5 minutes);
        Commitment memory second = _commitment(2, 11, 20);
        second.finalAt = first.finalAt;
        vm.prank(COMMITTER);
        _callCommit(second);
        vm.assertEq(rollup.commitmentHash(2), _commitmentHash(second));

        vm.warp(first.finalAt - 1 minutes + 1);
        Commitment memory third = _commitment(3, 21, 30);
        third.finalAt = first.finalAt + 1;
        vm.prank(COMMITTER);
        _callCommit(third);
        vm.assertEq(rollup.commitmentHash(3), _commitmentHash(third));

        vm.warp(first.finalAt - 1);
        vm.assertFalse(rollup.isFinal(second));
        vm.warp(first.finalAt);
        vm.assertTrue(rollup.isFinal(first));
        vm.assertTrue(rollup.isFinal(second));
        vm.assertFalse(rollup.isFinal(third));
    }

    /// @dev The time ends there: it is never final, and neither is what follows, unless the guardian takes it back.
    function test_an_enormous_window_ends_with_the_time() public {
        _post(1, 10);
        _post(11, 20);
        uint64 most = type(uint64).max - START;
        uint64[3] memory windows = [most + 1, most + START, most];
        Commitment memory none;
        for (uint256 i = 0; i < windows.length; ++i) {
            _choose(new ChallengeWindow(windows[i]));
            Commitment memory commitment = _commitment(1, 1, 10);
            commitment.finalAt = type(uint64).max;
            vm.prank(COMMITTER);
            _callCommit(commitment);
            vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));

            _choose(challengeWindow);
            Commitment memory next = _commitment(2, 11, 20);
            next.finalAt = type(uint64).max;
            vm.prank(COMMITTER);
            _callCommit(next);
            vm.assertEq(rollup.commitmentHash(2), _commitmentHash(next));
            vm.warp(type(uint64).max - 1);
            vm.assertFalse(rollup.isFinal(commitment));
            vm.prank(GUARDIAN);
            rollup.revertCommitments(commitment, none);
            vm.warp(START);
        }
        Commitment memory usual = _commit(1, 1, 10);
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(usual));
    }

    function test_final_when_the_window_is_over_to_the_second() public {
        _post(1, 10);
        Commitment memory commitment = _commit(1, 1, 10);
        vm.assertFalse(rollup.isFinal(commitment));
        vm.warp(START + WINDOW - 1);
        vm.assertFalse(rollup.isFinal(commitment));
        vm.warp(START + WINDOW);
        vm.assertTrue(rollup.isFinal(commitment));
        vm.warp(START + WINDOW + 1);
        vm.assertTrue(rollup.isFinal(commitment));
    }

    function test_only_the_recorded_commitment_is_final() public {
        _post(1, 10);
        Commitment memory commitment = _commit(1, 1, 10);
        vm.warp(START + WINDOW);
        commitment.stateRoot = keccak256("other");
        vm.assertFalse(rollup.isFinal(commitment));

        Commitment memory none;
        vm.assertFalse(rollup.isFinal(none));
    }

    // ----------------------------------------------------------------- fuzz

    function testFuzz_commit_stores_the_hash_of_everything(
        uint64 blocks,
        bytes32 lastBlockHash,
        bytes32 stateRoot,
        bytes32 messageRoot,
        uint40 elapsed
    ) public {
        vm.assume(blocks > 0);
        vm.warp(uint256(START) + elapsed);
        _post(1, blocks);
        Commitment memory commitment = _commitment(1, 1, blocks);
        commitment.lastBlockHash = lastBlockHash;
        commitment.stateRoot = stateRoot;
        commitment.messageRoot = messageRoot;
        vm.prank(COMMITTER);
        _callCommit(commitment);
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
        vm.assertEq(rollup.lastCommittedBlock(), blocks);
    }

    function testFuzz_a_window_of_any_length(uint64 window, uint40 elapsed) public {
        _choose(new ChallengeWindow(window));
        vm.warp(uint256(START) + elapsed);
        _post(1, 1);
        Commitment memory commitment = _commitment(1, 1, 1);
        uint256 end = uint256(START) + elapsed + window;
        commitment.finalAt = end > type(uint64).max ? type(uint64).max : uint64(end);
        vm.prank(COMMITTER);
        _callCommit(commitment);
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
    }

    function testFuzz_final_from_the_end_of_the_window_on(uint32 elapsed) public {
        _post(1, 1);
        Commitment memory commitment = _commit(1, 1, 1);
        vm.warp(uint256(START) + elapsed);
        vm.assertTrue(rollup.isFinal(commitment) == (elapsed >= WINDOW));
    }

    function _expectRefused(Commitment memory commitment, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(COMMITTER);
        _callCommit(commitment);
    }
}
