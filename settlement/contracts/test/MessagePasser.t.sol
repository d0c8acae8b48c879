// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {MessagePasser} from "../src/MessagePasser.sol";
import {Vm} from "./support/Vm.sol";

/// @dev Sends on whatever it is called with.
contract Forwarder {
    function forward(address target) external payable returns (bool sent, bytes memory reason) {
        (sent, reason) = target.call{value: msg.value}("");
    }
}

contract MessagePasserTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address private constant PREDEPLOY = 0x4200000000000000000000000000000000000016;
    address private constant ALICE = address(0xB1);
    address private constant BOB = address(0xB2);

    MessagePasser private passer;

    /// @dev As in the genesis: the runtime bytecode alone.
    function setUp() public {
        vm.etch(PREDEPLOY, type(MessagePasser).runtimeCode);
        passer = MessagePasser(payable(PREDEPLOY));
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

    function test_storage_lies_where_it_is_looked_for() public {
        vm.prank(ALICE);
        bytes32 id = passer.sendMessage(BOB, 100_000, "");
        vm.assertEq(vm.load(PREDEPLOY, keccak256(abi.encode(id, uint256(0)))), bytes32(uint256(1)));
        vm.assertEq(vm.load(PREDEPLOY, bytes32(uint256(1))), bytes32(uint256(1)));
        vm.prank(ALICE);
        passer.sendMessage(BOB, 100_000, "");
        vm.assertEq(vm.load(PREDEPLOY, bytes32(uint256(1))), bytes32(uint256(2)));
        vm.assertEq(vm.load(PREDEPLOY, 0), 0);
    }

    // -------------------------------------------------------- plain transfers

    function test_a_plain_transfer_withdraws_to_the_sender() public {
        bytes32 id = _id(0, ALICE, ALICE, 3 ether, 100_000, "");
        vm.expectEmit(PREDEPLOY);
        emit MessagePasser.MessageSent(0, ALICE, ALICE, 3 ether, 100_000, "", id);
        vm.prank(ALICE, ALICE);
        (bool taken,) = PREDEPLOY.call{value: 3 ether}("");
        vm.assertTrue(taken);
        vm.assertTrue(passer.sent(id));
        vm.assertEq(PREDEPLOY.balance, 3 ether);
    }

    function test_a_plain_transfer_from_a_contract_is_refused() public {
        Forwarder forwarder = new Forwarder();
        vm.prank(ALICE, ALICE);
        (bool sent, bytes memory reason) = forwarder.forward{value: 1}(PREDEPLOY);
        vm.assertFalse(sent);
        vm.assertEq(reason, abi.encodeWithSelector(MessagePasser.PlainTransferFromContract.selector, forwarder));
        vm.assertEq(passer.nonce(), 0);
    }

    function test_other_calls_are_refused() public {
        vm.prank(ALICE, ALICE);
        (bool taken,) = PREDEPLOY.call{value: 1}(hex"00");
        vm.assertFalse(taken);
    }

    // ----------------------------------------------------------------- limits

    function test_gas_has_an_upper_limit() public {
        vm.expectRevert(abi.encodeWithSelector(MessagePasser.MessageGasTooHigh.selector, 12_000_001, 12_000_000));
        passer.sendMessage(BOB, 12_000_001, "");
        passer.sendMessage(BOB, 12_000_000, "");
        vm.assertEq(passer.nonce(), 1);
    }

    function test_data_has_an_upper_limit() public {
        bytes memory data = new bytes(65_537);
        vm.expectRevert(abi.encodeWithSelector(MessagePasser.MessageDataTooLarge.selector, 65_537, 65_536));
        passer.sendMessage(BOB, 0, data);
        data = new bytes(65_536);
        passer.sendMessage(BOB, 0, data);
        vm.assertEq(passer.nonce(), 1);
    }

    // ------------------------------------------------------------------- fuzz

    function testFuzz_the_id_covers_everything(
        address sender,
        address target,
        uint96 value,
        uint64 gasLimit,
        bytes calldata data,
        uint8 before
    ) public {
        vm.assume(sender != address(vm));
        gasLimit %= 12_000_001;
        for (uint256 i = 0; i < before % 4; ++i) {
            passer.sendMessage(BOB, 0, "");
        }
        vm.deal(sender, value);
        vm.prank(sender);
        bytes32 id = passer.sendMessage{value: value}(target, gasLimit, data);
        vm.assertEq(id, _id(before % 4, sender, target, value, gasLimit, data));
        vm.assertTrue(passer.sent(id));
        vm.assertEq(passer.nonce(), before % 4 + 1);
    }

    function testFuzz_ids_are_unique(uint256 seed, uint8 count) public {
        bytes32[] memory ids = new bytes32[](2 + count % 6);
        for (uint256 i = 0; i < ids.length; ++i) {
            // Few different ones, so that many are equal.
            ids[i] = passer.sendMessage(address(uint160(1 + (seed >> i) % 2)), uint64((seed >> 16 + i) % 2), "");
            for (uint256 j = 0; j < i; ++j) {
                vm.assertTrue(ids[i] != ids[j]);
            }
            vm.assertTrue(passer.sent(ids[i]));
        }
        vm.assertFalse(passer.sent(keccak256(abi.encode(seed))));
    }

    function _id(uint64 nonce, address sender, address target, uint256 value, uint64 gasLimit, bytes memory data)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(nonce, sender, target, value, gasLimit, data));
    }
}
