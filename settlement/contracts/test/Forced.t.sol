// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {BatchHeader} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

/// @dev What enters the queue without a deposit, and until when a sequencer may leave an entry of the queue out.
contract ForcedTest is RollupTest {
    /// @dev Nobody looks at the bytes here: L2 does.
    bytes private constant TRANSACTION = hex"02f86d83066ee180843b9aca00";
    uint64 private constant DUE_AT = DEPLOYED_AT + INCLUSION;

    // ------------------------------------------------------------- the queue

    function test_it_queues_and_emits() public {
        bytes32 accumulator = keccak256(abi.encode(bytes32(0), _forcedHash(0, TRANSACTION)));
        vm.expectEmit(address(rollup));
        emit Rollup.TransactionForced(0, TRANSACTION, accumulator);
        vm.prank(ALICE, ALICE);
        rollup.forceTransaction(TRANSACTION);

        vm.assertEq(rollup.depositCount(), 1);
        vm.assertEq(rollup.depositAccumulator(1), accumulator);
        vm.assertEq(rollup.depositAccumulator(2), 0);
        vm.assertEq(rollup.queuedAt(0), DEPLOYED_AT);
    }

    /// @dev The signature is what counts: who brings it, an account or a contract, leaves no trace.
    function test_anyone_forces_in_nobody_s_name() public {
        address[5] memory senders = [ALICE, STRANGER, BATCHER, address(this), address(bridge)];
        bytes32 expected = 0;
        for (uint64 i = 0; i < senders.length; ++i) {
            expected = keccak256(abi.encode(expected, _forcedHash(i, TRANSACTION)));
            vm.expectEmit(address(rollup));
            emit Rollup.TransactionForced(i, TRANSACTION, expected);
            vm.prank(senders[i], i % 2 == 0 ? senders[i] : ALICE);
            rollup.forceTransaction(TRANSACTION);
        }
        vm.assertEq(rollup.depositAccumulator(5), expected);
    }

    function test_it_is_taken_while_paused() public {
        vm.prank(GUARDIAN);
        rollup.pause();
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        rollup.depositETH(BOB);
        vm.prank(STRANGER);
        rollup.forceTransaction(TRANSACTION);
        vm.assertEq(rollup.depositCount(), 1);
        vm.assertEq(rollup.depositAccumulator(1), keccak256(abi.encode(bytes32(0), _forcedHash(0, TRANSACTION))));
        vm.assertTrue(rollup.paused());
    }

    function test_it_has_some_bytes_and_32_KiB_at_most() public {
        uint256[3] memory wrong = [uint256(0), 32_769, 100_000];
        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.ForcedBytesOutOfRange.selector, wrong[i], 32_768));
            rollup.forceTransaction(new bytes(wrong[i]));
        }
        rollup.forceTransaction(hex"00");
        rollup.forceTransaction(new bytes(32_768));
        vm.assertEq(rollup.depositCount(), 2);
        vm.assertEq(rollup.MAX_FORCED_BYTES(), 32_768);
    }

    /// @dev Ether that came along would belong to nobody.
    function test_it_takes_no_ether() public {
        vm.prank(ALICE, ALICE);
        (bool done,) = address(rollup).call{value: 1}(abi.encodeCall(Rollup.forceTransaction, (TRANSACTION)));
        vm.assertFalse(done);
        vm.assertEq(rollup.depositCount(), 0);
    }

    function test_it_leaves_the_other_counters_alone() public {
        _post(1, 10);
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        vm.warp(START + 5);
        rollup.forceTransaction(TRANSACTION);
        vm.assertEq(rollup.batchCount(), 1);
        vm.assertEq(rollup.currentEpoch(), 1);
        vm.assertEq(rollup.lastPostedAt(), START);
        vm.assertFalse(rollup.paused());
        vm.assertEq(address(rollup).balance, 0);
    }

    /// @dev Nobody makes a deposit without its ether: bytes that a deposit's entry is the hash of are another entry.
    function test_no_bytes_pass_for_a_deposit() public {
        bytes memory preimage =
            abi.encode(uint64(0), STRANGER, STRANGER, uint256(1 ether), uint64(100_000), keccak256(""));
        bytes32 deposit = _depositHash(0, STRANGER, STRANGER, 1 ether, 100_000, "");
        vm.assertEq(keccak256(preimage), deposit);
        rollup.forceTransaction(preimage);
        bytes32 forced = rollup.depositAccumulator(1);
        vm.assertTrue(forced != keccak256(abi.encode(bytes32(0), deposit)));
        // Nor for a queue.
        vm.assertTrue(forced != deposit && forced != keccak256(abi.encode(uint64(0), deposit)));
    }

    /// @dev Any mix of both, in one queue under one count.
    function testFuzz_the_accumulator_is_the_chain_of_any_entries(uint256 seed, uint8 countSeed) public {
        bytes32 expected = 0;
        uint256 held = 0;
        uint64 count = 1 + countSeed % 14;
        for (uint64 i = 0; i < count; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            bytes memory data = _bytes(random >> 8, 1 + (random >> 16) % 90);
            bytes32 entry;
            if (random % 2 == 0) {
                entry = _forcedHash(i, data);
                rollup.forceTransaction(data);
            } else {
                uint256 value = (random >> 32) % 1 ether;
                entry = _depositHash(i, ALICE, BOB, value, 200_000, data);
                vm.prank(ALICE, ALICE);
                rollup.depositTransaction{value: value}(BOB, 200_000, data);
                held += value;
            }
            expected = keccak256(abi.encode(expected, entry));
            vm.assertEq(rollup.depositAccumulator(i + 1), expected);
        }
        vm.assertEq(rollup.depositCount(), count);
        vm.assertEq(rollup.depositAccumulator(count + 1), 0);
        vm.assertEq(address(rollup).balance, held);
    }

    function testFuzz_any_bytes_within_the_limits(bytes calldata transaction) public {
        vm.assume(transaction.length > 0 && transaction.length <= 32_768);
        rollup.forceTransaction(transaction);
        vm.assertEq(rollup.depositAccumulator(1), keccak256(abi.encode(bytes32(0), _forcedHash(0, transaction))));
    }

    // -------------------------------------------------------- when they came

    /// @dev Six to a slot: the ends of the first three slots are 5, 11 and 17.
    function test_queuedAt_is_the_block_of_each_entry() public {
        for (uint64 i = 0; i < 19; ++i) {
            vm.assertEq(rollup.queuedAt(i), 0);
            vm.roll(1_000 + 7 * uint256(i));
            _queue(i % 3 == 0);
            for (uint64 j = 0; j <= i; ++j) {
                vm.assertEq(rollup.queuedAt(j), 1_000 + 7 * uint256(j));
            }
            vm.assertEq(rollup.queuedAt(i + 1), 0);
        }
    }

    function test_queuedAt_keeps_to_its_slots() public {
        uint64[5] memory edges = [uint64(5), 6, 11, 12, 13];
        uint256 most = type(uint40).max;
        uint256 next = 0;
        for (uint64 i = 0; i < 14; ++i) {
            bool edge = i == edges[next];
            vm.roll(edge ? most : 1);
            _queue(false);
            if (edge) ++next;
        }
        // From the low end: all bits of an entry at the end of its slot, or at the beginning, and of none beside it.
        uint256 ones = 1 | 1 << 40 | 1 << 80 | 1 << 120 | 1 << 160 | 1 << 200;
        vm.assertEq(_blocksSlot(0), ones - (1 << 200) + (most << 200));
        vm.assertEq(_blocksSlot(1), ones - 1 - (1 << 200) + most + (most << 200));
        vm.assertEq(_blocksSlot(2), most | most << 40);
        vm.assertEq(_blocksSlot(3), 0);
    }

    function testFuzz_queuedAt(uint256 seed, uint8 countSeed) public {
        uint256 count = 1 + countSeed % 20;
        uint256[] memory blocks = new uint256[](count);
        uint256 height = seed % 1e9;
        for (uint256 i = 0; i < count; ++i) {
            height += uint256(keccak256(abi.encode(seed, i))) % 5e10;
            blocks[i] = height;
            vm.roll(height);
            _queue(height % 2 == 0);
        }
        for (uint64 i = 0; i < count; ++i) {
            vm.assertEq(rollup.queuedAt(i), blocks[i]);
        }
        vm.assertEq(rollup.queuedAt(uint64(count)), 0);
    }

    /// @dev 20,000 gas for a slot that was empty, 2,900 for one that was not.
    function test_the_first_of_six_pays_for_the_slot() public {
        uint256[14] memory gas;
        uint256 start = vm.snapshotState();
        for (uint256 i = 0; i < 14; ++i) {
            gas[i] = this.measureEntry(i);
            vm.revertToState(start);
        }
        for (uint256 i = 1; i < 14; ++i) {
            vm.assertEq(gas[i], i % 6 == 0 ? gas[6] : gas[1]);
        }
        vm.assertEq(gas[6] - gas[1], 17_100);
    }

    // --------------------------------------------------------------- overdue

    function test_the_batcher_may_leave_a_forced_transaction_out_until_it_is_due() public {
        _queue(true);
        _assertDue(BATCHER);
    }

    function test_the_batcher_may_leave_a_deposit_out_until_it_is_due() public {
        _queue(false);
        _assertDue(BATCHER);
    }

    function test_a_stranger_may_leave_a_forced_transaction_out_until_it_is_due() public {
        _queue(true);
        vm.warp(START + TIMEOUT);
        _assertDue(STRANGER);
    }

    function test_a_stranger_may_leave_a_deposit_out_until_it_is_due() public {
        _queue(false);
        vm.warp(START + TIMEOUT);
        _assertDue(STRANGER);
    }

    function test_only_the_first_entry_left_out_counts() public {
        vm.roll(1_000);
        _queue(true);
        vm.roll(1_050);
        _queue(false);
        vm.roll(1_090);
        _queue(true);

        vm.roll(1_101);
        _expectOverdue(BATCHER, 0, 1_100);
        _postUpTo(BATCHER, 1);
        _postUpTo(BATCHER, 2);

        vm.roll(1_150);
        _postUpTo(BATCHER, 1);
        vm.roll(1_151);
        _expectOverdue(BATCHER, 0, 1_100);
        _expectOverdue(BATCHER, 1, 1_150);
        _postUpTo(BATCHER, 2);

        vm.roll(1_191);
        _expectOverdue(BATCHER, 0, 1_100);
        _expectOverdue(BATCHER, 1, 1_150);
        _expectOverdue(BATCHER, 2, 1_190);
        _postUpTo(BATCHER, 3);
    }

    function test_a_batch_that_takes_it_is_fine_however_late() public {
        _queue(true);
        _queue(false);
        vm.roll(DUE_AT + 1_000_000_000);
        _expectOverdue(BATCHER, 0, DUE_AT);
        _expectOverdue(BATCHER, 1, DUE_AT);
        _postUpTo(BATCHER, 2);
        vm.warp(START + TIMEOUT);
        _postUpTo(STRANGER, 2);
        vm.assertEq(rollup.batchCount(), 2);
    }

    function test_an_empty_queue_is_never_overdue() public {
        vm.roll(DUE_AT + 1);
        _postUpTo(BATCHER, 0);
    }

    function test_what_comes_later_has_a_time_of_its_own() public {
        _queue(true);
        vm.roll(DUE_AT + 1);
        _postUpTo(BATCHER, 1);
        _queue(true);
        _postUpTo(BATCHER, 1);
        vm.roll(DUE_AT + 1 + INCLUSION);
        _postUpTo(BATCHER, 1);
        vm.roll(DUE_AT + 2 + INCLUSION);
        _expectOverdue(BATCHER, 1, DUE_AT + 1 + INCLUSION);
    }

    /// @dev Each batch by itself: L2 may have passed over the one before it.
    function test_a_batch_does_not_rely_on_the_one_before_it() public {
        _queue(true);
        _postUpTo(BATCHER, 1);
        _postUpTo(BATCHER, 0);
        vm.roll(DUE_AT + 1);
        _expectOverdue(BATCHER, 0, DUE_AT);
        _postUpTo(BATCHER, 1);
    }

    function test_a_pause_gives_no_more_time() public {
        _queue(true);
        _queue(false);
        vm.prank(GUARDIAN);
        rollup.pause();
        vm.roll(DUE_AT + 1);
        _expectOverdue(BATCHER, 0, DUE_AT);
        _postUpTo(BATCHER, 2);
    }

    /// @dev A sequencer that censors stops posting, and then anyone posts.
    function test_strangers_take_what_the_batcher_leaves_out() public {
        _queue(true);
        vm.roll(DUE_AT + 1);
        vm.warp(START + TIMEOUT - 1);
        _expectOverdue(BATCHER, 0, DUE_AT);
        vm.assertEq(rollup.lastPostedAt(), START);
        vm.warp(START + TIMEOUT);
        _expectOverdue(STRANGER, 0, DUE_AT);
        _postUpTo(STRANGER, 1);
        vm.assertEq(rollup.batchCount(), 1);
    }

    function test_the_window_is_the_chain_s() public {
        uint64[3] memory windows = [uint64(1), 7_200, type(uint64).max];
        for (uint256 i = 0; i < windows.length; ++i) {
            Rollup.Config memory config = _config();
            config.inclusionWindow = windows[i];
            vm.roll(2_000);
            rollup = _deploy(config);
            _queue(true);
            uint256 dueAt = 2_000 + uint256(windows[i]);
            // Forge counts blocks up to there.
            if (dueAt > type(uint64).max - 1) {
                vm.roll(type(uint64).max);
                _postUpTo(BATCHER, 0);
                continue;
            }
            vm.roll(dueAt);
            _postUpTo(BATCHER, 0);
            vm.roll(dueAt + 1);
            _expectOverdue(BATCHER, 0, dueAt);
        }
    }

    /// @dev Refused exactly if an entry that is left out is overdue.
    function testFuzz_overdue(uint64[5] calldata gaps, uint8 endSeed, uint16 wait, bool stranger) public {
        uint256[5] memory blocks;
        uint256 height = DEPLOYED_AT;
        for (uint256 i = 0; i < 5; ++i) {
            height += gaps[i] % 60;
            blocks[i] = height;
            vm.roll(height);
            _queue(gaps[i] % 2 == 0);
        }
        uint64 end = endSeed % 6;
        height += wait % 120;
        vm.roll(height);
        bool overdue = false;
        for (uint256 i = end; i < 5; ++i) {
            overdue = overdue || height > blocks[i] + INCLUSION;
        }
        address sender = stranger ? STRANGER : BATCHER;
        vm.warp(START + TIMEOUT);
        if (overdue) _expectOverdue(sender, end, blocks[end] + INCLUSION);
        else _postUpTo(sender, end);
        vm.assertEq(rollup.batchCount(), overdue ? 0 : 1);
    }

    // --------------------------------------------------------------- helpers

    /// @dev The gas of the entry `index`, with nothing warm. Called from outside, so that it can be undone.
    function measureEntry(uint256 index) external returns (uint256) {
        for (uint256 i = 0; i < index; ++i) {
            _queue(true);
        }
        vm.cool(address(rollup));
        vm.cool(_implementation(address(rollup)));
        rollup.forceTransaction(TRANSACTION);
        return vm.lastCallGas().gasTotalUsed;
    }

    function _queue(bool forced) private {
        if (forced) {
            rollup.forceTransaction(TRANSACTION);
        } else {
            vm.prank(ALICE, ALICE);
            rollup.depositETH{value: 1}(BOB);
        }
    }

    /// @dev The queue has one entry, which came when the chain was deployed.
    function _assertDue(address sender) private {
        uint64[2] memory early = [DUE_AT - 1, DUE_AT];
        for (uint256 i = 0; i < early.length; ++i) {
            vm.roll(early[i]);
            _postUpTo(sender, 0);
        }
        uint64[2] memory late = [DUE_AT + 1, DUE_AT + 2];
        for (uint256 i = 0; i < late.length; ++i) {
            vm.roll(late[i]);
            _expectOverdue(sender, 0, DUE_AT);
            _postUpTo(sender, 1);
        }
        vm.assertEq(rollup.batchCount(), 4);
    }

    /// @dev The next batch, over the first entries of the queue alone.
    function _headerUpTo(uint64 end) private view returns (BatchHeader memory header) {
        header = _header(1, 1);
        header.depositsEnd = end;
        header.depositsHash = rollup.depositAccumulator(end);
    }

    function _postUpTo(address sender, uint64 end) private {
        BatchHeader memory header = _headerUpTo(end);
        vm.blobhashes(_blobs(1));
        vm.prank(sender);
        rollup.postBatch(0, header, "");
        vm.blobhashes(new bytes32[](0));
        vm.assertEq(rollup.batchCount(), header.number);
    }

    function _expectOverdue(address sender, uint64 end, uint256 dueAt) private {
        BatchHeader memory header = _headerUpTo(end);
        vm.blobhashes(_blobs(1));
        vm.expectRevert(abi.encodeWithSelector(Rollup.EntryOverdue.selector, end, dueAt));
        vm.prank(sender);
        rollup.postBatch(0, header, "");
        vm.blobhashes(new bytes32[](0));
    }

    function _blocksSlot(uint64 sextuple) private view returns (uint256) {
        return uint256(vm.load(address(rollup), keccak256(abi.encode(sextuple, uint256(6)))));
    }

    function _bytes(uint256 random, uint256 length) private pure returns (bytes memory some) {
        some = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            some[i] = bytes1(uint8(random >> (i % 200)));
        }
    }
}
