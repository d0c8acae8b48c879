// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../../src/Rollup.sol";
import {Commitment, Message} from "../../src/Types.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {RollupTest} from "./RollupTest.sol";

/// @dev Short ways to bring messages of L2 into a commitment, and to relay them.
abstract contract RelayTest is RollupTest {
    uint256 internal constant HELD = 100 ether;

    /// @dev Ether is there to be paid out.
    function setUp() public virtual override {
        super.setUp();
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: HELD}(ALICE);
    }

    function _message(uint64 nonce, address target, uint256 value) internal pure returns (Message memory) {
        return Message({nonce: nonce, sender: ALICE, target: target, value: value, gasLimit: 200_000, data: ""});
    }

    /// @dev As L2's predeploy computes it.
    function _id(Message memory message) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(message.nonce, message.sender, message.target, message.value, message.gasLimit, message.data)
        );
    }

    function _ids(Message[] memory messages) internal pure returns (bytes32[] memory ids) {
        ids = new bytes32[](messages.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            ids[i] = _id(messages[i]);
        }
    }

    function _list(Message memory message) internal pure returns (Message[] memory messages) {
        messages = new Message[](1);
        messages[0] = message;
    }

    function _list(Message memory first, Message memory second) internal pure returns (Message[] memory messages) {
        messages = new Message[](2);
        messages[0] = first;
        messages[1] = second;
    }

    /// @dev Posts and commits a batch whose blocks sent these messages.
    function _commitRoot(bytes32 root) internal returns (Commitment memory commitment) {
        uint64 firstBlock = rollup.lastCommittedBlock() + 1;
        uint64 number = _post(firstBlock, firstBlock + 9);
        commitment = _commitment(number, firstBlock, firstBlock + 9);
        commitment.messageRoot = root;
        vm.prank(COMMITTER);
        _callCommit(commitment);
    }

    function _commitMessages(Message[] memory messages) internal returns (Commitment memory) {
        return _commitRoot(MerkleTree.root(_ids(messages)));
    }

    /// @dev The same, and waits until the commitment is final.
    function _finalMessages(Message[] memory messages) internal returns (Commitment memory commitment) {
        commitment = _commitMessages(messages);
        vm.warp(commitment.finalAt);
    }

    function _final(Message memory message) internal returns (Commitment memory) {
        return _finalMessages(_list(message));
    }

    function _relay(Commitment memory commitment, Message memory message) internal {
        rollup.relayMessage(commitment, message, new bytes32[](0));
    }

    function _assertStatus(Message memory message, Rollup.MessageStatus status) internal view {
        vm.assertEq(uint256(rollup.messageStatus(_id(message))), uint256(status));
    }
}
