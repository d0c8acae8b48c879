// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {RollupTest} from "./support/RollupTest.sol";

/// @dev A wallet contract: whoever calls it makes it deposit.
contract Wallet {
    function depositETH(Rollup rollup, address to) external payable {
        rollup.depositETH{value: msg.value}(to);
    }

    function send(Rollup rollup) external payable returns (bool sent, bytes memory reason) {
        (sent, reason) = address(rollup).call{value: msg.value}("");
    }
}

contract DepositsTest is RollupTest {
    uint160 private constant OFFSET = uint160(0x1111000000000000000000000000000000001111);

    function test_depositETH_queues_and_emits() public {
        bytes32 accumulator = keccak256(abi.encode(bytes32(0), _depositHash(0, ALICE, BOB, 3 ether, 100_000, "")));
        vm.expectEmit(address(rollup));
        emit Rollup.DepositQueued(0, ALICE, BOB, 3 ether, 100_000, "", accumulator);
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 3 ether}(BOB);

        vm.assertEq(rollup.depositCount(), 1);
        vm.assertEq(rollup.depositAccumulator(1), accumulator);
        vm.assertEq(address(rollup).balance, 3 ether);
    }

    function test_depositTransaction_queues_and_emits() public {
        bytes memory data = hex"0011223344";
        bytes32 accumulator = keccak256(abi.encode(bytes32(0), _depositHash(0, ALICE, BOB, 1 wei, 300_000, data)));
        vm.expectEmit(address(rollup));
        emit Rollup.DepositQueued(0, ALICE, BOB, 1 wei, 300_000, data, accumulator);
        vm.prank(ALICE, ALICE);
        rollup.depositTransaction{value: 1 wei}(BOB, 300_000, data);
        vm.assertEq(rollup.depositAccumulator(1), accumulator);
    }

    function test_a_plain_transfer_deposits_to_the_sender() public {
        bytes32 accumulator = keccak256(abi.encode(bytes32(0), _depositHash(0, ALICE, ALICE, 2 ether, 100_000, "")));
        vm.expectEmit(address(rollup));
        emit Rollup.DepositQueued(0, ALICE, ALICE, 2 ether, 100_000, "", accumulator);
        vm.prank(ALICE, ALICE);
        (bool sent,) = address(rollup).call{value: 2 ether}("");
        vm.assertTrue(sent);
    }

    function test_the_accumulator_chains_every_deposit() public {
        bytes32 expected = 0;
        for (uint64 i = 0; i < 5; ++i) {
            bytes memory data = abi.encodePacked(i);
            vm.prank(ALICE, ALICE);
            rollup.depositTransaction{value: i}(BOB, 50_000 + i, data);
            expected = keccak256(abi.encode(expected, _depositHash(i, ALICE, BOB, i, 50_000 + i, data)));
            vm.assertEq(rollup.depositCount(), i + 1);
            vm.assertEq(rollup.depositAccumulator(i + 1), expected);
        }
        vm.assertEq(rollup.depositAccumulator(0), 0);
        vm.assertEq(rollup.depositAccumulator(6), 0);
    }

    // ------------------------------------------------------------- aliasing

    function test_a_contract_is_aliased() public {
        Wallet wallet = new Wallet();
        address from = address(uint160(address(wallet)) + OFFSET);
        bytes32 accumulator = keccak256(abi.encode(bytes32(0), _depositHash(0, from, BOB, 1 ether, 100_000, "")));
        vm.expectEmit(address(rollup));
        emit Rollup.DepositQueued(0, from, BOB, 1 ether, 100_000, "", accumulator);
        vm.prank(ALICE, ALICE);
        wallet.depositETH{value: 1 ether}(rollup, BOB);
    }

    function test_the_alias_wraps_around() public {
        address high = address(type(uint160).max);
        vm.deal(high, 1 ether);
        vm.prank(high, ALICE);
        rollup.depositETH{value: 1 ether}(BOB);
        vm.assertEq(
            rollup.depositAccumulator(1),
            keccak256(abi.encode(bytes32(0), _depositHash(0, address(OFFSET - 1), BOB, 1 ether, 100_000, "")))
        );
    }

    function test_an_origin_with_delegated_code_is_not_aliased() public {
        uint256 key = 0xD1;
        address account = vm.addr(key);
        vm.deal(account, 1 ether);
        Wallet implementation = new Wallet();
        vm.signAndAttachDelegation(address(implementation), key);
        vm.prank(account, account);
        rollup.depositETH{value: 1 ether}(BOB);

        vm.assertEq(account.code, abi.encodePacked(hex"ef0100", address(implementation)));
        vm.assertEq(
            rollup.depositAccumulator(1),
            keccak256(abi.encode(bytes32(0), _depositHash(0, account, BOB, 1 ether, 100_000, "")))
        );
    }

    function test_a_plain_transfer_from_a_contract_is_refused() public {
        Wallet wallet = new Wallet();
        vm.prank(ALICE, ALICE);
        (bool sent, bytes memory reason) = wallet.send{value: 1 ether}(rollup);
        vm.assertFalse(sent);
        vm.assertEq(reason, abi.encodeWithSelector(Rollup.PlainTransferFromContract.selector, address(wallet)));
        vm.assertEq(rollup.depositCount(), 0);
    }

    // --------------------------------------------------------------- limits

    function test_the_recipient_is_not_zero() public {
        vm.expectRevert(abi.encodeWithSelector(Rollup.DepositRecipientZero.selector));
        rollup.depositETH{value: 1}(address(0));
        vm.expectRevert(abi.encodeWithSelector(Rollup.DepositRecipientZero.selector));
        rollup.depositTransaction{value: 1}(address(0), 100_000, "");
    }

    function test_gas_covers_what_L2_charges_before_execution() public {
        bytes memory data = new bytes(100);
        vm.expectRevert(abi.encodeWithSelector(Rollup.DepositGasTooLow.selector, 24_999, 25_000));
        rollup.depositTransaction(BOB, 24_999, data);
        rollup.depositTransaction(BOB, 25_000, data);

        vm.expectRevert(abi.encodeWithSelector(Rollup.DepositGasTooLow.selector, 20_999, 21_000));
        rollup.depositTransaction(BOB, 20_999, "");
        rollup.depositTransaction(BOB, 21_000, "");
        vm.assertEq(rollup.depositCount(), 2);
    }

    function test_gas_has_an_upper_limit() public {
        vm.expectRevert(abi.encodeWithSelector(Rollup.DepositGasTooHigh.selector, 1_000_001, 1_000_000));
        rollup.depositTransaction(BOB, 1_000_001, "");
        rollup.depositTransaction(BOB, 1_000_000, "");
        vm.assertEq(rollup.depositCount(), 1);
    }

    function test_data_has_an_upper_limit() public {
        bytes memory data = new bytes(32_769);
        vm.expectRevert(abi.encodeWithSelector(Rollup.DepositDataTooLarge.selector, 32_769, 32_768));
        rollup.depositTransaction(BOB, 1_000_000, data);

        data = new bytes(32_768);
        vm.expectRevert(abi.encodeWithSelector(Rollup.DepositGasTooLow.selector, 1_000_000, 1_331_720));
        rollup.depositTransaction(BOB, 1_000_000, data);
    }

    function test_the_largest_deposit_is_taken() public {
        bytes memory data = new bytes(24_475);
        rollup.depositTransaction(BOB, 1_000_000, data);
        vm.assertEq(rollup.depositCount(), 1);
    }

    function test_a_contract_can_not_be_paid_in_its_own_name() public {
        Wallet wallet = new Wallet();
        vm.deal(address(wallet), 1 ether);
        // Its code runs, but the transaction is somebody else's.
        vm.prank(address(wallet), ALICE);
        (bool sent, bytes memory reason) = address(rollup).call{value: 1 ether}("");
        vm.assertFalse(sent);
        vm.assertEq(reason, abi.encodeWithSelector(Rollup.PlainTransferFromContract.selector, address(wallet)));
    }

    /// @dev L2 knows the bridge by one address, wherever it is on L1; its own alias is nobody there.
    function test_the_bridge_is_known_by_its_predeploy() public {
        vm.prank(address(bridge), ALICE);
        rollup.depositTransaction(BOB, 100_000, hex"01");
        address from = address(uint160(0x4200000000000000000000000000000000000010) + OFFSET);
        vm.assertEq(
            rollup.depositAccumulator(1),
            keccak256(abi.encode(bytes32(0), _depositHash(0, from, BOB, 0, 100_000, hex"01")))
        );
    }

    // ----------------------------------------------------------------- fuzz

    /// @dev Any number of deposits, by accounts and contracts, in all three ways.
    function testFuzz_the_accumulator_is_the_chain_of_any_deposits(uint256 seed, uint8 countSeed) public {
        bytes32 expected = 0;
        uint256 held = 0;
        uint64 count = 1 + countSeed % 8;
        for (uint64 i = 0; i < count; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            address account = address(uint160(0xACC0) + uint160(random % 16));
            bool contract_ = random >> 8 & 1 == 1;
            address from = contract_ ? address(uint160(account) + OFFSET) : account;
            address to = address(uint160(1 + (random >> 16) % 1000));
            uint256 value = (random >> 32) % 1e24;
            uint64 gasLimit = 100_000;
            bytes memory data = "";
            vm.deal(account, value);
            if (random >> 9 & 1 == 1) {
                vm.prank(account, contract_ ? ALICE : account);
                rollup.depositETH{value: value}(to);
            } else if (!contract_ && random >> 10 & 1 == 1) {
                to = account;
                vm.prank(account, account);
                (bool sent,) = address(rollup).call{value: value}("");
                vm.assertTrue(sent);
            } else {
                data = new bytes((random >> 11) % 100);
                for (uint256 j = 0; j < data.length; ++j) {
                    data[j] = bytes1(uint8(random >> j));
                }
                gasLimit = uint64(25_000 + (random >> 20) % 900_000);
                vm.prank(account, contract_ ? ALICE : account);
                rollup.depositTransaction{value: value}(to, gasLimit, data);
            }
            expected = keccak256(abi.encode(expected, _depositHash(i, from, to, value, gasLimit, data)));
            held += value;
            vm.assertEq(rollup.depositAccumulator(i + 1), expected);
        }
        vm.assertEq(rollup.depositCount(), count);
        vm.assertEq(rollup.depositAccumulator(count + 1), 0);
        vm.assertEq(address(rollup).balance, held);
    }

    function testFuzz_any_deposit_within_limits(
        address from,
        address to,
        uint96 value,
        uint64 gasSeed,
        bytes calldata data
    ) public {
        // Precompiles and the cheatcode address are no accounts that could sign.
        vm.assume(uint160(from) > 0xffff && from.code.length == 0 && from != address(vm));
        vm.assume(to != address(0));
        uint64 minimum = uint64(21_000 + 40 * data.length);
        vm.assume(minimum <= 1_000_000);
        uint64 gasLimit = minimum + gasSeed % (1_000_001 - minimum);
        vm.deal(from, value);

        vm.prank(from, from);
        rollup.depositTransaction{value: value}(to, gasLimit, data);
        vm.assertEq(
            rollup.depositAccumulator(1),
            keccak256(abi.encode(bytes32(0), _depositHash(0, from, to, value, gasLimit, data)))
        );
        vm.assertEq(address(rollup).balance, value);
    }

    function testFuzz_gas_outside_the_limits_is_refused(uint64 gasLimit, bytes calldata data) public {
        uint256 minimum = 21_000 + 40 * data.length;
        vm.assume(gasLimit < minimum || gasLimit > 1_000_000);
        vm.expectRevert();
        rollup.depositTransaction(BOB, gasLimit, data);
    }
}
