// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Attestation} from "../src/Attestation.sol";
import {Rollup} from "../src/Rollup.sol";
import {BatchHeader, Commitment, Message} from "../src/Types.sol";
import {GasMeter} from "./support/GasMeter.sol";
import {MerkleTree} from "./support/MerkleTree.sol";
import {Recorder} from "./support/Targets.sol";

/// @dev What a chain does all the time, in the steady state in which every counter is nonzero already.
contract GasTest is GasMeter {
    uint256 private constant POST_BUDGET = 90_000;
    uint256 private constant COMMIT_BUDGET = 80_000;

    Commitment private last;
    /// @dev A chain whose next entry is the first of six. (What a test calls before it measures is no longer cold.)
    Rollup private six;

    function setUp() public override {
        super.setUp();
        six = _deploy(_config());
        for (uint256 i = 0; i < 6; ++i) {
            six.forceTransaction(hex"02");
        }
        vm.prank(BATCHER);
        six.beginEpoch(1);
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        _post(1, 10);
        last = _commit(1, 1, 10);
        _post(11, 20);
        vm.warp(START + 60);
    }

    // ------------------------------------------------------------------ posts

    function test_gas_of_a_post_with_one_blob() public {
        vm.assertLe(_measurePost("Rollup.postBatch, 1 blob", _header(21, 30), 1, ""), POST_BUDGET, "post, 1 blob");
    }

    function test_gas_of_a_post_with_six_blobs() public {
        vm.assertLe(_measurePost("Rollup.postBatch, 6 blobs", _header(21, 30), 6, ""), POST_BUDGET, "post, 6 blobs");
    }

    function test_gas_of_a_post_with_a_pointer() public {
        BatchHeader memory header = _header(21, 30);
        header.daKind = 5;
        bytes memory pointer = abi.encode(keccak256("key"));
        vm.assertLe(_measurePost("Rollup.postBatch, 32-byte pointer", header, 0, pointer), POST_BUDGET, "post, pointer");
    }

    function test_gas_of_a_post_that_leaves_entries_out() public {
        BatchHeader memory header = _header(21, 30);
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        rollup.forceTransaction(hex"02");
        vm.assertLe(
            _measurePost("Rollup.postBatch, 1 blob, leaves entries out", header, 1, ""), POST_BUDGET, "post, not all"
        );
    }

    function test_gas_of_a_post_by_a_stranger() public {
        vm.warp(START + 60 + TIMEOUT);
        bytes memory input = abi.encodeCall(Rollup.postBatch, (0, _header(21, 30), ""));
        vm.blobhashes(_blobs(1));
        _measure("Rollup.postBatch, 1 blob, anyone", STRANGER, address(rollup), 0, input);
    }

    function test_gas_of_an_epoch() public {
        _measure("Rollup.beginEpoch", BATCHER, address(six), 0, abi.encodeCall(Rollup.beginEpoch, (2)));
    }

    // ---------------------------------------------------------------- commits

    function test_gas_of_a_commit() public {
        bytes memory input = _commitInput(_commitment(2, 11, 20), "");
        vm.assertLe(_measure("Rollup.commitBatch", COMMITTER, address(rollup), 0, input), COMMIT_BUDGET, "commit");
    }

    function test_gas_of_a_commit_that_two_of_three_sign() public {
        (uint256[3] memory keys, address[] memory members) = _threeMembers();
        Attestation attestation = new Attestation(members, 2, 10 minutes);
        _choose(attestation);
        Commitment memory commitment = _commitment(2, 11, 20);
        bytes32 digest = attestation.attestationDigest(address(rollup), commitment, 0);
        bytes memory proof = "";
        for (uint256 i = 0; i < 2; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(keys[i], digest);
            proof = abi.encodePacked(proof, r, s, v);
        }
        vm.cool(address(attestation));
        _measure("Rollup.commitBatch, 2 of 3 sign", STRANGER, address(rollup), 0, _commitInput(commitment, proof));
    }

    function test_gas_of_a_revert() public {
        Commitment memory second = _commit(2, 11, 20);
        bytes memory input = abi.encodeCall(Rollup.revertCommitments, (second, last));
        _measure("Rollup.revertCommitments, 1 commitment", GUARDIAN, address(rollup), 0, input);
    }

    // --------------------------------------------------------------- deposits

    function test_gas_of_a_deposit() public {
        _measure("Rollup.depositETH", ALICE, address(rollup), 1, abi.encodeCall(Rollup.depositETH, (BOB)));
    }

    /// @dev It pays for the slot in which the blocks of the next five are kept, too.
    function test_gas_of_a_deposit_that_is_the_first_of_six() public {
        _measure("Rollup.depositETH, first of six", ALICE, address(six), 1, abi.encodeCall(Rollup.depositETH, (BOB)));
    }

    function test_gas_of_a_plain_transfer() public {
        _measure("Rollup.receive", ALICE, address(rollup), 1, "");
    }

    function test_gas_of_a_transaction() public {
        bytes memory input = abi.encodeCall(Rollup.depositTransaction, (BOB, 100_000, _ones(100)));
        _measure("Rollup.depositTransaction, 100 bytes", ALICE, address(rollup), 1, input);
    }

    function test_gas_of_a_forced_transaction() public {
        bytes memory input = abi.encodeCall(Rollup.forceTransaction, (_ones(120)));
        _measure("Rollup.forceTransaction, 120 bytes", ALICE, address(rollup), 0, input);
    }

    function test_gas_of_a_forced_transaction_that_is_the_first_of_six() public {
        bytes memory input = abi.encodeCall(Rollup.forceTransaction, (_ones(120)));
        _measure("Rollup.forceTransaction, 120 bytes, first of six", ALICE, address(six), 0, input);
    }

    // --------------------------------------------------------------- messages

    function test_gas_of_a_relay() public {
        vm.deal(BOB, 1);
        Message memory message = _message(0, BOB, 1 ether);
        bytes memory input = abi.encodeCall(Rollup.relayMessage, (_finalTwo(message), message, new bytes32[](0)));
        _measure("Rollup.relayMessage, ether", STRANGER, address(rollup), 0, input);
    }

    function test_gas_of_a_relay_from_among_a_thousand() public {
        vm.deal(BOB, 1);
        Message memory message = _message(0, BOB, 1 ether);
        bytes32[] memory ids = new bytes32[](1_024);
        for (uint256 i = 0; i < ids.length; ++i) {
            ids[i] = i == 500 ? _id(message) : keccak256(abi.encode(i));
        }
        Commitment memory commitment = _finalRoot(MerkleTree.root(ids));
        bytes memory input = abi.encodeCall(Rollup.relayMessage, (commitment, message, MerkleTree.proof(ids, 500)));
        _measure("Rollup.relayMessage, ether, 1 of 1,024", STRANGER, address(rollup), 0, input);
    }

    function test_gas_of_a_relay_to_a_new_account() public {
        Message memory message = _message(0, address(0xD1), 1 ether);
        bytes memory input = abi.encodeCall(Rollup.relayMessage, (_finalTwo(message), message, new bytes32[](0)));
        _measure("Rollup.relayMessage, ether to a new account", STRANGER, address(rollup), 0, input);
    }

    function test_gas_of_a_retry() public {
        Recorder target = new Recorder(rollup);
        target.refuse(true);
        Message memory message = _message(0, address(target), 1 ether);
        message.data = hex"01";
        _relay(_finalTwo(message), message);
        vm.assertTrue(rollup.messageStatus(_id(message)) == Rollup.MessageStatus.Failed);
        target.refuse(false);
        vm.cool(address(target));
        bytes memory input = abi.encodeCall(Rollup.retryMessage, (message));
        _measure("Rollup.retryMessage, recorded by its target", STRANGER, address(rollup), 0, input);
    }

    function test_gas_of_a_genesis() public {
        bytes memory input = abi.encodeCall(Rollup.publishGenesis, (GENESIS));
        _measure("Rollup.publishGenesis, 5 bytes", OWNER, address(rollup), 0, input);
    }

    // ---------------------------------------------------------------- helpers

    function _commitInput(Commitment memory c, bytes memory proof) private pure returns (bytes memory) {
        return abi.encodeCall(
            Rollup.commitBatch,
            (c.number, c.batchHash, c.firstBlock, c.lastBlock, c.lastBlockHash, c.stateRoot, c.messageRoot, proof)
        );
    }

    function _ones(uint256 count) private pure returns (bytes memory data) {
        data = new bytes(count);
        for (uint256 i = 0; i < count; ++i) {
            data[i] = 0x11;
        }
    }

    function _finalTwo(Message memory message) private returns (Commitment memory) {
        return _finalRoot(MerkleTree.root(_ids(_list(message))));
    }

    function _finalRoot(bytes32 root) private returns (Commitment memory commitment) {
        commitment = _commitRoot(root);
        vm.warp(commitment.finalAt);
    }

    function _threeMembers() private pure returns (uint256[3] memory keys, address[] memory members) {
        keys = [uint256(0xD1), 0xD2, 0xD3];
        members = new address[](3);
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = 0; j + 1 < 3; ++j) {
                if (vm.addr(keys[j]) > vm.addr(keys[j + 1])) (keys[j], keys[j + 1]) = (keys[j + 1], keys[j]);
            }
        }
        for (uint256 i = 0; i < 3; ++i) {
            members[i] = vm.addr(keys[i]);
        }
    }

    function _measurePost(string memory name, BatchHeader memory header, uint256 blobs, bytes memory pointer)
        private
        returns (uint256)
    {
        bytes memory input = abi.encodeCall(Rollup.postBatch, (0, header, pointer));
        vm.blobhashes(_blobs(blobs));
        return _measure(name, BATCHER, address(rollup), 0, input);
    }
}
