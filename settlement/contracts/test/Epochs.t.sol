// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {BatchHeader} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

/// @dev Which sequencer posts, and what becomes of the chain when none does.
contract EpochsTest is RollupTest {
    address private constant STANDBY = address(0xA5);

    /// @dev Two sequencers, each with its own key.
    function setUp() public override {
        super.setUp();
        bytes32 role = rollup.BATCHER_ROLE();
        vm.prank(OWNER);
        rollup.grantRole(role, STANDBY);
    }

    function test_an_epoch_begins_and_is_announced() public {
        vm.expectEmit(address(rollup));
        emit Rollup.EpochBegan(1, STANDBY);
        vm.prank(STANDBY);
        rollup.beginEpoch(1);
        vm.assertEq(rollup.currentEpoch(), 1);
    }

    function test_epochs_follow_one_another() public {
        uint32[3] memory wrong = [uint32(0), 2, type(uint32).max];
        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.EpochNotNext.selector, wrong[i], 1));
            vm.prank(BATCHER);
            rollup.beginEpoch(wrong[i]);
        }
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        vm.expectRevert(abi.encodeWithSelector(Rollup.EpochNotNext.selector, 1, 2));
        vm.prank(STANDBY);
        rollup.beginEpoch(1);
    }

    function test_only_posts_of_the_current_epoch_are_taken() public {
        _expectPostRefused(BATCHER, 1, abi.encodeWithSelector(Rollup.EpochOver.selector, 1, 0));
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        _expectPostRefused(BATCHER, 0, abi.encodeWithSelector(Rollup.EpochOver.selector, 0, 1));
        _expectPostRefused(BATCHER, 2, abi.encodeWithSelector(Rollup.EpochOver.selector, 2, 1));
        _postAs(BATCHER, 1, 1, 10);
    }

    function test_a_sequencer_that_was_replaced_posts_no_more() public {
        _postAs(BATCHER, 0, 1, 10);
        vm.prank(STANDBY);
        rollup.beginEpoch(1);
        _expectPostRefused(BATCHER, 0, abi.encodeWithSelector(Rollup.EpochOver.selector, 0, 1));
        _postAs(STANDBY, 1, 11, 20);

        // Until it takes over in its turn, by an epoch of its own.
        vm.prank(BATCHER);
        rollup.beginEpoch(2);
        _postAs(BATCHER, 2, 21, 30);
        _expectPostRefused(STANDBY, 1, abi.encodeWithSelector(Rollup.EpochOver.selector, 1, 2));
        vm.assertEq(rollup.batchCount(), 3);
    }

    /// @dev Also where anyone may post: one that was replaced has not been told to go on.
    function test_a_sequencer_that_was_replaced_is_not_anyone() public {
        vm.prank(STANDBY);
        rollup.beginEpoch(1);
        vm.warp(START + TIMEOUT);
        _expectPostRefused(BATCHER, 0, abi.encodeWithSelector(Rollup.EpochOver.selector, 0, 1));
        _postAs(STRANGER, 0, 1, 10);
    }

    function test_an_epoch_leaves_the_queues_alone() public {
        rollup.depositETH(BOB);
        _postAs(BATCHER, 0, 1, 10);
        vm.warp(START + 5);
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        vm.assertEq(rollup.batchCount(), 1);
        vm.assertEq(rollup.depositCount(), 1);
        vm.assertEq(rollup.lastPostedAt(), START + 5);
        vm.assertFalse(rollup.paused());
    }

    // ---------------------------------------------------------- signs of life

    /// @dev Or strangers could post in the time that a sequencer needs to take over.
    function test_an_epoch_is_a_sign_of_life() public {
        vm.warp(START + TIMEOUT - 1);
        vm.prank(STANDBY);
        rollup.beginEpoch(1);
        vm.assertEq(rollup.lastPostedAt(), START + TIMEOUT - 1);
        vm.warp(START + TIMEOUT);
        _expectAlive(START + 2 * TIMEOUT - 1);
        vm.warp(START + 2 * TIMEOUT - 1);
        _postAs(STRANGER, 0, 1, 10);
    }

    function test_an_epoch_ends_the_time_in_which_anyone_posts() public {
        vm.warp(START + TIMEOUT);
        _postAs(STRANGER, 0, 1, 10);
        vm.prank(STANDBY);
        rollup.beginEpoch(1);
        _expectAlive(START + 2 * TIMEOUT);
        _postAs(STANDBY, 1, 11, 20);
    }

    function test_an_epoch_that_is_refused_is_no_sign_of_life() public {
        vm.warp(START + TIMEOUT);
        vm.expectRevert(abi.encodeWithSelector(Rollup.EpochNotNext.selector, 2, 1));
        vm.prank(STANDBY);
        rollup.beginEpoch(2);
        vm.assertEq(rollup.lastPostedAt(), START);
        _postAs(STRANGER, 0, 1, 10);
    }

    function test_a_refused_post_is_no_sign_of_life() public {
        vm.warp(START + TIMEOUT - 1);
        _expectPostRefused(BATCHER, 1, abi.encodeWithSelector(Rollup.EpochOver.selector, 1, 0));
        vm.warp(START + TIMEOUT);
        _postAs(STRANGER, 0, 1, 10);
    }

    function test_a_post_is_a_sign_of_life() public {
        vm.warp(START + 7);
        _postAs(BATCHER, 0, 1, 10);
        vm.assertEq(rollup.lastPostedAt(), START + 7);
        vm.warp(START + 7 + TIMEOUT - 1);
        _expectAlive(START + 7 + TIMEOUT);
    }

    // ---------------------------------------------------------- anyone posts

    function test_anyone_posts_from_the_timeout_on_to_the_second() public {
        vm.warp(START + TIMEOUT - 1);
        _expectAlive(START + TIMEOUT);
        vm.warp(START + TIMEOUT);
        _postAs(STRANGER, 0, 1, 10);
        vm.warp(START + TIMEOUT + 1);
        _postAs(STRANGER, 0, 11, 20);
        vm.assertEq(rollup.batchCount(), 2);
    }

    /// @dev Or the first of them would shut all others out, and the next one a timeout later.
    function test_posts_of_strangers_do_not_move_the_time() public {
        vm.warp(START + TIMEOUT);
        _postAs(STRANGER, 0, 1, 10);
        vm.assertEq(rollup.lastPostedAt(), START);
        _postAs(BOB, 0, 11, 20);
        vm.assertEq(rollup.lastPostedAt(), START);
    }

    function test_a_stranger_s_epoch_does_not_matter() public {
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        vm.warp(START + TIMEOUT);
        _postAs(STRANGER, 0, 1, 10);
        _postAs(STRANGER, 1, 11, 20);
        _postAs(STRANGER, type(uint32).max, 21, 30);
        vm.assertEq(rollup.currentEpoch(), 1);
    }

    function test_the_batcher_closes_it_again() public {
        vm.warp(START + TIMEOUT);
        _postAs(STRANGER, 0, 1, 10);
        _postAs(BATCHER, 0, 11, 20);
        vm.assertEq(rollup.lastPostedAt(), START + TIMEOUT);
        _expectAlive(START + 2 * TIMEOUT);
        vm.warp(START + 2 * TIMEOUT - 1);
        _expectAlive(START + 2 * TIMEOUT);
        vm.warp(START + 2 * TIMEOUT);
        _postAs(STRANGER, 0, 21, 30);
    }

    function test_strangers_obey_the_same_rules() public {
        vm.warp(START + TIMEOUT);
        BatchHeader memory header = _header(1, 1);
        vm.expectRevert(abi.encodeWithSelector(Rollup.BlobsMissing.selector));
        vm.prank(STRANGER);
        rollup.postBatch(0, header, "");
        header.number = 2;
        vm.expectRevert(abi.encodeWithSelector(Rollup.UnexpectedBatchNumber.selector, 2, 1));
        vm.prank(STRANGER);
        rollup.postBatch(0, header, "");
    }

    /// @dev Nobody has to keep what strangers say is elsewhere.
    function test_what_strangers_post_is_on_L1() public {
        vm.warp(START + TIMEOUT);
        for (uint8 kind = 3; kind < 8; ++kind) {
            BatchHeader memory header = _header(1, 1);
            header.daKind = kind;
            vm.expectRevert(abi.encodeWithSelector(Rollup.DaKindNotOnL1.selector, kind));
            vm.prank(STRANGER);
            rollup.postBatch(0, header, hex"01");
            if (kind > 5) continue;
            vm.prank(BATCHER);
            rollup.postBatch(0, header, hex"01");
            vm.warp(rollup.lastPostedAt() + TIMEOUT);
        }
        BatchHeader memory none = _header(1, 1);
        none.daKind = 0;
        vm.expectRevert(abi.encodeWithSelector(Rollup.UnknownDaKind.selector, 0));
        vm.prank(STRANGER);
        rollup.postBatch(0, none, hex"01");

        _postAs(STRANGER, 0, 1, 10);
        BatchHeader memory inCalldata = _header(11, 20);
        inCalldata.daKind = 2;
        vm.prank(STRANGER);
        rollup.postBatch(0, inCalldata, hex"01");
        vm.assertEq(rollup.batchCount(), 5);
    }

    function testFuzz_anyone_posts_exactly_when_the_batcher_is_silent(uint32 silence) public {
        vm.warp(uint256(START) + silence);
        if (silence < TIMEOUT) {
            _expectAlive(START + TIMEOUT);
        } else {
            _postAs(STRANGER, 0, 1, 10);
        }
        _postAs(BATCHER, 0, 11, 20);
        vm.assertEq(rollup.lastPostedAt(), uint256(START) + silence);
        _expectAlive(uint256(START) + silence + TIMEOUT);
    }

    function _expectAlive(uint256 openFrom) private {
        _expectPostRefused(STRANGER, 0, abi.encodeWithSelector(Rollup.SequencerIsAlive.selector, STRANGER, openFrom));
    }
}
