// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {Commitment, Message} from "../src/Types.sol";
import {RelayTest} from "./support/RelayTest.sol";
import {Recorder} from "./support/Targets.sol";

contract PauseTest is RelayTest {
    function test_the_guardian_pauses_and_the_owner_unpauses() public {
        vm.expectEmit(address(rollup));
        emit Rollup.Paused(GUARDIAN);
        vm.prank(GUARDIAN);
        rollup.pause();
        vm.assertTrue(rollup.paused());

        bytes32 admin = rollup.DEFAULT_ADMIN_ROLE();
        address[3] memory others = [GUARDIAN, STRANGER, address(timelock)];
        for (uint256 i = 0; i < others.length; ++i) {
            _expectMissingRole(others[i], admin);
            vm.prank(others[i]);
            rollup.unpause();
        }
        vm.expectEmit(address(rollup));
        emit Rollup.Unpaused(OWNER);
        vm.prank(OWNER);
        rollup.unpause();
        vm.assertFalse(rollup.paused());
    }

    function test_nobody_else_pauses() public {
        bytes32 role = rollup.GUARDIAN_ROLE();
        address[4] memory others = [OWNER, BATCHER, COMMITTER, STRANGER];
        for (uint256 i = 0; i < others.length; ++i) {
            _expectMissingRole(others[i], role);
            vm.prank(others[i]);
            rollup.pause();
        }
    }

    function test_deposits_stop_and_go_on() public {
        _pause();
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.prank(ALICE, ALICE);
        rollup.depositTransaction{value: 1}(BOB, 100_000, "");
        vm.prank(ALICE, ALICE);
        (bool sent, bytes memory reason) = address(rollup).call{value: 1}("");
        vm.assertFalse(sent);
        vm.assertEq(reason, abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.assertEq(rollup.depositCount(), 1);

        vm.prank(OWNER);
        rollup.unpause();
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        vm.assertEq(rollup.depositCount(), 2);
    }

    function test_commitments_stop_and_go_on() public {
        _post(1, 10);
        Commitment memory commitment = _commitment(1, 1, 10);
        _pause();
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.prank(COMMITTER);
        _callCommit(commitment);

        vm.prank(OWNER);
        rollup.unpause();
        vm.prank(COMMITTER);
        _callCommit(commitment);
        vm.assertEq(rollup.lastCommittedBatch(), 1);
    }

    function test_posts_go_on() public {
        _pause();
        _post(1, 10);
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        vm.warp(START + TIMEOUT);
        _postAs(STRANGER, 0, 11, 20);
        vm.assertEq(rollup.batchCount(), 2);
        // A post writes the slot that also says whether deposits are stopped.
        vm.assertTrue(rollup.paused());
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        rollup.depositETH(BOB);
    }

    function test_forced_transactions_go_on() public {
        uint64 count = rollup.depositCount();
        _pause();
        rollup.forceTransaction(hex"02");
        vm.assertEq(rollup.depositCount(), count + 1);
        // It writes the slot that also says whether deposits are stopped.
        vm.assertTrue(rollup.paused());
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        rollup.depositETH(BOB);
    }

    function test_what_is_final_is_delivered() public {
        Message memory message = _message(0, BOB, 1 ether);
        Commitment memory commitment = _final(message);
        _pause();
        _relay(commitment, message);
        vm.assertEq(BOB.balance, 1 ether);
    }

    function test_what_becomes_final_is_delivered() public {
        Message memory message = _message(0, BOB, 1 ether);
        Commitment memory commitment = _commitMessages(_list(message));
        _pause();
        vm.warp(commitment.finalAt);
        _relay(commitment, message);
        vm.assertEq(BOB.balance, 1 ether);
    }

    function test_what_failed_is_repeated() public {
        Recorder target = new Recorder(rollup);
        target.refuse(true);
        Message memory message = _message(0, address(target), 1 ether);
        Commitment memory commitment = _final(message);
        _pause();
        _relay(commitment, message);
        _assertStatus(message, Rollup.MessageStatus.Failed);
        target.refuse(false);
        rollup.retryMessage(message);
        _assertStatus(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(address(target).balance, 1 ether);
    }

    function test_a_pause_does_not_end_by_itself_nor_by_another() public {
        _pause();
        _pause();
        vm.warp(START + 365 days);
        vm.assertTrue(rollup.paused());
        vm.prank(OWNER);
        rollup.unpause();
        vm.assertFalse(rollup.paused());
    }

    /// @dev A revert writes the slot that also says whether commitments are stopped.
    function test_a_revert_leaves_commitments_stopped() public {
        _post(1, 10);
        Commitment memory commitment = _commit(1, 1, 10);
        Commitment memory none;
        _pause();
        vm.prank(GUARDIAN);
        rollup.revertCommitments(commitment, none);
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.prank(COMMITTER);
        _callCommit(commitment);
    }

    function _pause() private {
        vm.prank(GUARDIAN);
        rollup.pause();
    }
}
