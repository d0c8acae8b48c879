// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {MessagePasser} from "../src/MessagePasser.sol";
import {Vm} from "./support/Vm.sol";

contract MessagePasserTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address private constant PREDEPLOY = 0x4200000000000000000000000000000000000016;
    address private constant ALICE = address(0xB1);
    address private constant BOB = address(0xB2);

    MessagePasser private passer;

    /// @dev As in the genesis: the runtime bytecode alone.
    function setUp() public {
        vm.etch(PREDEPLOY, type(MessagePasser).runtimeCode);
        passer = MessagePasser(PREDEPLOY);
        vm.deal(ALICE, 1_000_000 ether);
    }

    function test_send_records_and_emits() public {
        bytes32 id = _id(0, ALICE, BOB, 5 ether, 200_000, hex"c0ffee");
        vm.expectEmit(PREDEPLOY);
        emit MessagePasser.MessageSent(0, ALICE, BOB, 5 ether, 200_000, hex"c0ffee", id);
        vm.prank(ALICE);
        vm.assertEq(passer.sendMessage{value: 5 ether}(BOB, 200_000, hex"c0ffee"), id);

        vm.assertTrue(passer.sent(id));
        vm.assertEq(passer.nonce(), 1);
        vm.assertEq(PREDEPLOY.balance, 5 ether);
    }

    function test_equal_messages_have_different_ids() public {
        vm.prank(ALICE);
        bytes32 first = passer.sendMessage(BOB, 0, "");
        vm.prank(ALICE);
        bytes32 second = passer.sendMessage(BOB, 0, "");
        vm.assertTrue(first != second);
        vm.assertTrue(passer.sent(first));
        vm.assertTrue(passer.sent(second));
        vm.assertEq(passer.nonce(), 2);
    }

    function test_storage_lies_where_proofs_look_for_it() public {
        vm.prank(ALICE);
        bytes32 id = passer.sendMessage(BOB, 100_000, "");
        vm.assertEq(vm.load(PREDEPLOY, keccak256(abi.encode(id, uint256(0)))), bytes32(uint256(1)));
        vm.assertEq(vm.load(PREDEPLOY, bytes32(uint256(1))), bytes32(uint256(1)));
    }

    function test_a_plain_transfer_is_refused() public {
        vm.prank(ALICE);
        (bool taken,) = PREDEPLOY.call{value: 1}("");
        vm.assertFalse(taken);
    }

    function testFuzz_the_id_covers_everything(
        address target,
        uint96 value,
        uint64 gasLimit,
        bytes calldata data,
        uint8 before
    ) public {
        for (uint256 i = 0; i < before % 4; ++i) {
            passer.sendMessage(BOB, 0, "");
        }
        vm.deal(ALICE, value);
        vm.prank(ALICE);
        bytes32 id = passer.sendMessage{value: value}(target, gasLimit, data);
        vm.assertEq(id, _id(before % 4, ALICE, target, value, gasLimit, data));
        vm.assertTrue(passer.sent(id));
    }

    function _id(uint64 nonce, address sender, address target, uint256 value, uint64 gasLimit, bytes memory data)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(nonce, sender, target, value, gasLimit, data));
    }
}
