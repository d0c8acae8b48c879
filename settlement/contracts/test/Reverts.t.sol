// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {ChallengeWindow} from "../src/ChallengeWindow.sol";
import {Rollup} from "../src/Rollup.sol";
import {Commitment} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

/// @dev Three commitments ten minutes apart, of batches 1, 2 and 4; batch 3 is skipped.
contract RevertsTest is RollupTest {
    uint64 private constant STEP = 10 minutes;

    Commitment private first;
    Commitment private second;
    Commitment private fourth;
    Commitment private none;

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

    /// @dev However many commitments go, and only when some do.
    function test_reverts_are_counted() public {
        vm.assertEq(rollup.revertCount(), 0);
        _revertFrom(fourth, second);
        vm.assertEq(rollup.revertCount(), 1);
        _expectRefused(fourth, second, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 4, bytes32(0)));
        vm.assertEq(rollup.revertCount(), 1);
        _revertFrom(first, none);
        vm.assertEq(rollup.revertCount(), 2);
        _commit(4, 1, 30);
        vm.assertEq(rollup.revertCount(), 2);
    }

    function test_revert_newest_part_first() public {
        _revertFrom(fourth, second);
        _revertFrom(first, none);
        _assertHeads(0, 0);
    }

    function test_the_blocks_can_be_committed_again() public {
        _revertFrom(second, first);
        Commitment memory again = _commit(2, 11, 15);
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
        address[4] memory others = [COMMITTER, BATCHER, OWNER, STRANGER];
        for (uint256 i = 0; i < others.length; ++i) {
            _expectMissingRole(others[i], role);
            vm.prank(others[i]);
            rollup.revertCommitments(fourth, second);
        }
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
        Commitment memory forged = fourth;
        forged.previous = 1;
        _expectRefused(
            forged, first, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 4, _commitmentHash(fourth))
        );
        forged = fourth;
        forged.committedAt += 1;
        _expectRefused(
            forged, second, abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 4, _commitmentHash(fourth))
        );
        forged = fourth;
        forged.finalAt += 1;
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

    function test_the_guardian_reverts_while_paused() public {
        vm.prank(GUARDIAN);
        rollup.pause();
        _revertFrom(fourth, second);
        vm.assertTrue(rollup.paused());
        _assertHeads(2, 20);
    }

    // ------------------------------------------------- when the next is final

    /// @dev The two that are reverted were final no earlier than in a year; what follows does not inherit that.
    function test_a_revert_takes_the_time_of_finality_back() public {
        _choose(new ChallengeWindow(365 days));
        uint64 number = _post(31, 40);
        Commitment memory late = _commitment(number, 31, 40);
        late.finalAt = _now() + 365 days;
        vm.prank(COMMITTER);
        _callCommit(late);

        _choose(challengeWindow);
        number = _post(41, 50);
        Commitment memory held = _commitment(number, 41, 50);
        held.finalAt = late.finalAt;
        vm.prank(COMMITTER);
        _callCommit(held);
        vm.assertEq(rollup.commitmentHash(number), _commitmentHash(held));

        _revertFrom(late, fourth);
        Commitment memory again = _commit(number, 31, 50);
        vm.assertEq(rollup.commitmentHash(number), _commitmentHash(again));
    }

    function test_a_revert_of_all_takes_the_time_of_finality_back() public {
        _choose(new ChallengeWindow(1 minutes));
        _revertFrom(first, none);
        Commitment memory again = _commitment(4, 1, 30);
        again.finalAt = _now() + 1 minutes;
        vm.prank(COMMITTER);
        _callCommit(again);
        vm.assertEq(rollup.commitmentHash(4), _commitmentHash(again));
    }

    /// @dev With one window for all, the last that stays is what the next may not precede.
    function test_the_last_that_stays_is_what_the_next_does_not_precede() public {
        _choose(new ChallengeWindow(1 minutes));
        _revertFrom(fourth, second);
        Commitment memory again = _commitment(4, 21, 30);
        again.finalAt = second.finalAt;
        vm.prank(COMMITTER);
        _callCommit(again);
        vm.assertEq(rollup.commitmentHash(4), _commitmentHash(again));
    }

    function test_skipped_batches_cost_a_revert_no_more_than_a_look() public {
        for (uint256 i = 0; i < 500; ++i) {
            _post(1, 1);
        }
        Commitment memory far = _commit(504, 31, 40);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(far, fourth);
        vm.assertLe(vm.lastCallGas().gasTotalUsed, 60_000, "the newest alone");
    }

    function test_revert_leaves_batches_and_deposits_alone() public {
        rollup.depositETH(BOB);
        _revertFrom(first, none);
        vm.assertEq(rollup.batchCount(), 4);
        vm.assertEq(rollup.depositCount(), 1);
        vm.assertTrue(rollup.batchHashes(4) != 0);
    }

    function _revertFrom(Commitment memory firstReverted, Commitment memory newLast) private {
        vm.expectEmit(address(rollup));
        emit Rollup.CommitmentsReverted(firstReverted.number);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(firstReverted, newLast);
    }

    function _expectRefused(Commitment memory firstReverted, Commitment memory newLast, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(firstReverted, newLast);
    }

    function _assertHeads(uint64 batch, uint64 blockNumber) private view {
        vm.assertEq(rollup.lastCommittedBatch(), batch);
        vm.assertEq(rollup.lastCommittedBlock(), blockNumber);
    }
}
