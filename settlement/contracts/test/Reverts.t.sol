// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {RollupTest} from "./support/RollupTest.sol";

/// @dev Three commitments ten minutes apart, of batches 1, 2 and 4; batch 3 is skipped.
contract RevertsTest is RollupTest {
    uint64 private constant STEP = 10 minutes;

    Rollup.Commitment private first;
    Rollup.Commitment private second;
    Rollup.Commitment private fourth;
    Rollup.Commitment private none;

    function setUp() public override {
        super.setUp();
        _post(1, 10);
        _post(11, 20);
        _post(99, 99);
        _post(21, 30);
        first = _commit(1, 1, 10);
        vm.warp(START + STEP);
        second = _commit(2, 11, 20);
        vm.warp(START + 2 * STEP);
        fourth = _commit(4, 21, 30);
    }

    function test_revert_the_last() public {
        _revertFrom(fourth, second);
        _assertHeads(2, 20);
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(first));
        vm.assertEq(rollup.commitmentHash(2), _commitmentHash(second));
        vm.assertEq(rollup.commitmentHash(4), 0);
    }

    function test_revert_several() public {
        _revertFrom(second, first);
        _assertHeads(1, 10);
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(first));
        vm.assertEq(rollup.commitmentHash(2), 0);
        vm.assertEq(rollup.commitmentHash(4), 0);
    }

    function test_revert_all() public {
        _revertFrom(first, none);
        _assertHeads(0, 0);
        vm.assertEq(rollup.commitmentHash(1), 0);
        vm.assertEq(rollup.commitmentHash(2), 0);
        vm.assertEq(rollup.commitmentHash(4), 0);
    }

    function test_revert_newest_part_first() public {
        _revertFrom(fourth, second);
        _revertFrom(first, none);
        _assertHeads(0, 0);
    }

    function test_the_blocks_can_be_committed_again() public {
        _revertFrom(second, first);
        Rollup.Commitment memory again = _commit(2, 11, 15);
        vm.assertEq(again.previous, 1);
        _assertHeads(2, 15);
        vm.assertEq(rollup.commitmentHash(2), _commitmentHash(again));
    }

    function test_what_was_reverted_does_not_become_final() public {
        _revertFrom(first, none);
        _commit(4, 1, 30);
        vm.warp(START + 2 * STEP + WINDOW);
        vm.assertFalse(rollup.isFinal(first));
        vm.assertFalse(rollup.isFinal(second));
        vm.assertFalse(rollup.isFinal(fourth));
    }

    function test_revert_is_for_the_guardian() public {
        bytes32 role = rollup.GUARDIAN_ROLE();
        _expectMissingRole(COMMITTER, role);
        vm.prank(COMMITTER);
        rollup.revertCommitments(fourth, second);
    }

    function test_the_window_of_the_oldest_counts_to_the_second() public {
        vm.warp(START + STEP + WINDOW + 1);
        _expectRefused(
            second, first, abi.encodeWithSelector(Rollup.CommitmentIsFinal.selector, 2, START + STEP + WINDOW)
        );
        vm.warp(START + STEP + WINDOW);
        _expectRefused(
            second, first, abi.encodeWithSelector(Rollup.CommitmentIsFinal.selector, 2, START + STEP + WINDOW)
        );
        vm.warp(START + STEP + WINDOW - 1);
        _revertFrom(second, first);
        _assertHeads(1, 10);
    }

    function test_a_final_commitment_stays_when_later_ones_go() public {
        vm.warp(START + WINDOW);
        _revertFrom(second, first);
        vm.assertTrue(rollup.isFinal(first));
    }

    function test_the_new_last_is_directly_before() public {
        _expectRefused(fourth, first, abi.encodeWithSelector(Rollup.CommitmentsNotAdjacent.selector, 2, 1));
        _expectRefused(fourth, none, abi.encodeWithSelector(Rollup.CommitmentsNotAdjacent.selector, 2, 0));
        _expectRefused(second, second, abi.encodeWithSelector(Rollup.CommitmentsNotAdjacent.selector, 1, 2));
        _expectRefused(first, second, abi.encodeWithSelector(Rollup.CommitmentsNotAdjacent.selector, 0, 2));
    }

    function test_both_commitments_stand() public {
        Rollup.Commitment memory forged = fourth;
        forged.previous = 1;
        _expectRefused(
            forged, first, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 4, _commitmentHash(fourth))
        );
        forged = fourth;
        forged.committedAt += 1;
        _expectRefused(
            forged, second, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 4, _commitmentHash(fourth))
        );
        forged = second;
        forged.lastBlock = 25;
        _expectRefused(
            fourth, forged, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 2, _commitmentHash(second))
        );
        _expectRefused(none, none, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 0, bytes32(0)));
    }

    function test_a_commitment_is_reverted_once() public {
        _revertFrom(fourth, second);
        _expectRefused(fourth, second, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 4, bytes32(0)));
    }

    function test_revert_leaves_batches_and_deposits_alone() public {
        rollup.depositETH(BOB);
        _revertFrom(first, none);
        vm.assertEq(rollup.batchCount(), 4);
        vm.assertEq(rollup.depositCount(), 1);
        vm.assertTrue(rollup.batchHashes(4) != 0);
    }

    function _revertFrom(Rollup.Commitment memory firstReverted, Rollup.Commitment memory newLast) private {
        vm.expectEmit(address(rollup));
        emit Rollup.CommitmentsReverted(firstReverted.number);
        vm.prank(OWNER);
        rollup.revertCommitments(firstReverted, newLast);
    }

    function _expectRefused(
        Rollup.Commitment memory firstReverted,
        Rollup.Commitment memory newLast,
        bytes memory reason
    ) private {
        vm.expectRevert(reason);
        vm.prank(OWNER);
        rollup.revertCommitments(firstReverted, newLast);
    }

    function _assertHeads(uint64 batch, uint64 blockNumber) private view {
        vm.assertEq(rollup.lastCommittedBatch(), batch);
        vm.assertEq(rollup.lastCommittedBlock(), blockNumber);
    }
}
