// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {RollupTest} from "./support/RollupTest.sol";

/// @dev Gas of whole transactions, base cost and calldata included, in the steady state in which every counter is
/// nonzero already. The figures are kept in snapshots/gas.json, and check.sh fails when they change.
contract GasTest is RollupTest {
    uint256 private constant POST_BUDGET = 90_000;
    uint256 private constant COMMIT_BUDGET = 80_000;

    function setUp() public override {
        super.setUp();
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        _post(1, 10);
        _commit(1, 1, 10);
        _post(11, 20);
        vm.warp(START + 60);
    }

    function test_gas_of_a_post_with_one_blob() public {
        vm.assertLe(_measurePost("post, 1 blob", _header(21, 30), 1, ""), POST_BUDGET, "post, 1 blob");
    }

    function test_gas_of_a_post_with_six_blobs() public {
        vm.assertLe(_measurePost("post, 6 blobs", _header(21, 30), 6, ""), POST_BUDGET, "post, 6 blobs");
    }

    function test_gas_of_a_post_with_a_pointer() public {
        Rollup.BatchHeader memory header = _header(21, 30);
        header.daKind = 5;
        bytes memory pointer = abi.encode(keccak256("key"));
        vm.assertLe(_measurePost("post, 32-byte pointer", header, 0, pointer), POST_BUDGET, "post, pointer");
    }

    function test_gas_of_a_commit() public {
        Rollup.Commitment memory c = _commitment(2, 11, 20);
        bytes memory input = abi.encodeCall(
            Rollup.commitBatch,
            (c.number, c.batchHash, c.firstBlock, c.lastBlock, c.lastBlockHash, c.stateRoot, c.messageRoot)
        );
        vm.assertLe(_measure("commit", COMMITTER, 0, input), COMMIT_BUDGET, "commit");
    }

    function test_gas_of_a_deposit() public {
        _measure("depositETH", ALICE, 1, abi.encodeCall(Rollup.depositETH, (BOB)));
    }

    function _measurePost(string memory name, Rollup.BatchHeader memory header, uint256 blobs, bytes memory pointer)
        private
        returns (uint256)
    {
        bytes memory input = abi.encodeCall(Rollup.postBatch, (header, pointer));
        vm.blobhashes(_blobs(blobs));
        return _measure(name, BATCHER, 0, input);
    }

    /// @dev The gas of a transaction from `sender` with this value and input.
    function _measure(string memory name, address sender, uint256 value, bytes memory input)
        private
        returns (uint256 gas)
    {
        vm.cool(address(rollup));
        vm.prank(sender, sender);
        (bool done,) = address(rollup).call{value: value}(input);
        gas = vm.lastCallGas().gasTotalUsed + 21_000;
        vm.assertTrue(done);
        for (uint256 i = 0; i < input.length; ++i) {
            gas += input[i] == 0 ? 4 : 16;
        }
        vm.snapshotValue("gas", name, gas);
    }
}
