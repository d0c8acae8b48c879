// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {BatchHeader} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

contract BatchesTest is RollupTest {
    function test_post_records_and_emits() public {
        BatchHeader memory header = _header(1, 10);
        bytes32[] memory blobs = _blobs(3);
        bytes32 batchHash = _batchHash(0, header, blobs, "");

        vm.blobhashes(blobs);
        vm.expectEmit(address(rollup));
        emit Rollup.BatchPosted(1, header.digest, batchHash, header, blobs, "");
        vm.prank(BATCHER);
        rollup.postBatch(0, header, "");

        vm.assertEq(rollup.batchCount(), 1);
        vm.assertEq(rollup.batchHashes(1), batchHash);
    }

    function test_batch_hashes_chain() public {
        BatchHeader memory first = _header(1, 10);
        _post(1, 10);
        BatchHeader memory second = _header(11, 20);
        _post(11, 20);
        bytes32 firstHash = _batchHash(0, first, _blobs(1), "");
        vm.assertEq(rollup.batchHashes(1), firstHash);
        vm.assertEq(rollup.batchHashes(2), _batchHash(firstHash, second, _blobs(1), ""));
        vm.assertEq(rollup.batchHashes(3), 0);
    }

    function test_post_is_for_the_batcher() public {
        address[4] memory others = [OWNER, COMMITTER, GUARDIAN, STRANGER];
        for (uint256 i = 0; i < others.length; ++i) {
            bytes memory reason = abi.encodeWithSelector(Rollup.SequencerIsAlive.selector, others[i], START + TIMEOUT);
            _expectPostRefused(others[i], 0, reason);
        }
    }

    function test_numbers_are_consecutive() public {
        BatchHeader memory header = _header(1, 1);
        header.number = 0;
        _expectRefused(header, "", 1, abi.encodeWithSelector(Rollup.UnexpectedBatchNumber.selector, 0, 1));
        header.number = 2;
        _expectRefused(header, "", 1, abi.encodeWithSelector(Rollup.UnexpectedBatchNumber.selector, 2, 1));

        _post(1, 1);
        header.number = 1;
        _expectRefused(header, "", 1, abi.encodeWithSelector(Rollup.UnexpectedBatchNumber.selector, 1, 2));
    }

    function test_the_block_range_is_not_empty() public {
        BatchHeader memory header = _header(5, 4);
        _expectRefused(header, "", 1, abi.encodeWithSelector(Rollup.EmptyBlockRange.selector, 5, 4));
        _post(5, 5);
    }

    function test_blocks_of_consecutive_posts_need_not_join() public {
        _post(1, 10);
        _post(1, 10);
        _post(100, 110);
        vm.assertEq(rollup.batchCount(), 3);
    }

    // ------------------------------------------------------------- deposits

    function test_a_batch_covers_any_prefix_of_the_deposits() public {
        for (uint256 i = 0; i < 3; ++i) {
            rollup.depositETH(BOB);
        }
        for (uint64 end = 0; end <= 3; ++end) {
            BatchHeader memory header = _header(1, 1);
            header.depositsEnd = end;
            header.depositsHash = rollup.depositAccumulator(end);
            vm.blobhashes(_blobs(1));
            vm.prank(BATCHER);
            rollup.postBatch(0, header, "");
        }
        vm.assertEq(rollup.batchCount(), 4);
    }

    function test_deposits_that_nobody_made_are_refused() public {
        rollup.depositETH(BOB);
        BatchHeader memory header = _header(1, 1);
        header.depositsEnd = 2;
        header.depositsHash = 0;
        _expectRefused(header, "", 1, abi.encodeWithSelector(Rollup.DepositsNotQueued.selector, 2, 1));
    }

    function test_other_deposits_are_refused() public {
        rollup.depositETH(BOB);
        BatchHeader memory header = _header(1, 1);
        bytes32 expected = header.depositsHash;
        header.depositsHash = keccak256("other");
        _expectRefused(
            header, "", 1, abi.encodeWithSelector(Rollup.DepositsHashMismatch.selector, 1, keccak256("other"), expected)
        );
        header.depositsEnd = 0;
        header.depositsHash = expected;
        _expectRefused(
            header, "", 1, abi.encodeWithSelector(Rollup.DepositsHashMismatch.selector, 0, expected, bytes32(0))
        );
    }

    // -------------------------------------------------------- where it lies

    function test_a_batch_elsewhere_has_a_pointer_and_no_blobs() public {
        for (uint8 kind = 2; kind <= 5; ++kind) {
            BatchHeader memory header = _header(1, 1);
            header.daKind = kind;
            _expectRefused(header, "", 0, abi.encodeWithSelector(Rollup.DaPointerEmpty.selector, kind));
            _expectRefused(header, hex"0102", 1, abi.encodeWithSelector(Rollup.UnexpectedBlobs.selector, kind));

            bytes32 batchHash = _batchHash(rollup.batchHashes(header.number - 1), header, new bytes32[](0), hex"0102");
            vm.expectEmit(address(rollup));
            emit Rollup.BatchPosted(header.number, header.digest, batchHash, header, new bytes32[](0), hex"0102");
            vm.prank(BATCHER);
            rollup.postBatch(0, header, hex"0102");
            vm.assertEq(rollup.batchHashes(header.number), batchHash);
        }
    }

    function test_a_batch_in_blobs_has_blobs() public {
        BatchHeader memory header = _header(1, 1);
        _expectRefused(header, "", 0, abi.encodeWithSelector(Rollup.BlobsMissing.selector));
        _expectRefused(header, hex"01", 0, abi.encodeWithSelector(Rollup.BlobsMissing.selector));
    }

    function test_a_batch_in_blobs_may_have_a_pointer() public {
        BatchHeader memory header = _header(1, 1);
        vm.blobhashes(_blobs(1));
        vm.prank(BATCHER);
        rollup.postBatch(0, header, hex"0102");
        vm.assertEq(rollup.batchHashes(1), _batchHash(0, header, _blobs(1), hex"0102"));
    }

    function test_a_batch_takes_as_many_blobs_as_a_transaction_has() public {
        BatchHeader memory header = _header(1, 1);
        vm.blobhashes(_blobs(21));
        vm.prank(BATCHER);
        rollup.postBatch(0, header, "");
        vm.assertEq(rollup.batchHashes(1), _batchHash(0, header, _blobs(21), ""));
    }

    function test_unknown_kinds_are_refused() public {
        BatchHeader memory header = _header(1, 1);
        header.daKind = 0;
        _expectRefused(header, hex"01", 0, abi.encodeWithSelector(Rollup.UnknownDaKind.selector, 0));
        header.daKind = 6;
        _expectRefused(header, hex"01", 0, abi.encodeWithSelector(Rollup.UnknownDaKind.selector, 6));
        header.daKind = 255;
        _expectRefused(header, hex"01", 0, abi.encodeWithSelector(Rollup.UnknownDaKind.selector, 255));
    }

    // ----------------------------------------------------------------- fuzz

    function testFuzz_the_hash_covers_everything(
        uint64 firstBlock,
        uint64 blocks,
        bytes32 digest,
        uint8 kind,
        uint8 blobCount,
        bytes calldata pointer
    ) public {
        BatchHeader memory header = _header(firstBlock, firstBlock);
        vm.assume(blocks <= type(uint64).max - firstBlock);
        header.lastBlock = firstBlock + blocks;
        header.digest = digest;
        header.daKind = 1 + kind % 5;
        bytes32[] memory blobs = _blobs(header.daKind == 1 ? 1 + blobCount % 6 : 0);
        vm.assume(header.daKind == 1 || pointer.length > 0);

        vm.blobhashes(blobs);
        vm.prank(BATCHER);
        rollup.postBatch(0, header, pointer);
        vm.assertEq(rollup.batchHashes(1), _batchHash(0, header, blobs, pointer));
    }

    function _expectRefused(BatchHeader memory header, bytes memory pointer, uint256 blobCount, bytes memory reason)
        private
    {
        vm.blobhashes(_blobs(blobCount));
        vm.expectRevert(reason);
        vm.prank(BATCHER);
        rollup.postBatch(0, header, pointer);
        vm.blobhashes(new bytes32[](0));
    }
}
