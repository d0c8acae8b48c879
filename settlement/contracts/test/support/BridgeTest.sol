// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {BridgedToken} from "../../src/BridgedToken.sol";
import {L2TokenBridge} from "../../src/L2TokenBridge.sol";
import {MessagePasser} from "../../src/MessagePasser.sol";
import {Rollup} from "../../src/Rollup.sol";
import {Message} from "../../src/Types.sol";
import {RelayTest} from "./RelayTest.sol";
import {Vm} from "./Vm.sol";

/// @dev Both sides of the token bridge in one EVM: L2 is its predeploys, and what it does with deposits and messages is
/// played here.
abstract contract BridgeTest is RelayTest {
    address internal constant L2_BRIDGE = 0x4200000000000000000000000000000000000010;
    address internal constant L2_TOKEN_CODE = 0x4200000000000000000000000000000000000012;
    address internal constant L2_PASSER = 0x4200000000000000000000000000000000000016;
    /// @dev Who the bridge on L1 is on L2.
    address internal constant BRIDGE_ON_L2 = 0x5311000000000000000000000000000000001121;

    struct Deposit {
        address from;
        address to;
        uint256 value;
        uint64 gasLimit;
        bytes data;
    }

    L2TokenBridge internal l2Bridge;

    /// @dev As in the genesis: the runtime bytecode alone.
    function setUp() public virtual override {
        super.setUp();
        vm.etch(L2_BRIDGE, type(L2TokenBridge).runtimeCode);
        vm.etch(L2_TOKEN_CODE, type(BridgedToken).runtimeCode);
        vm.etch(L2_PASSER, type(MessagePasser).runtimeCode);
        l2Bridge = L2TokenBridge(L2_BRIDGE);
    }

    // -------------------------------------------------------------- L1 to L2

    /// @dev Deposits on L1; what L2 is told of it.
    function _deposit(address token, address from, address to, uint256 amount) internal returns (Deposit memory) {
        // Without looking at an answer, which some tokens do not give.
        vm.prank(from);
        (bool approved,) = token.call(abi.encodeCall(IERC20.approve, (address(bridge), amount)));
        vm.assertTrue(approved);
        vm.recordLogs();
        vm.prank(from, from);
        bridge.deposit(IERC20(token), to, amount);
        return _lastDeposit();
    }

    function _lastDeposit() internal returns (Deposit memory deposit) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 found = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != Rollup.DepositQueued.selector) continue;
            vm.assertEq(logs[i].emitter, address(rollup));
            deposit.from = _account(logs[i].topics[2]);
            deposit.to = _account(logs[i].topics[3]);
            bytes32 accumulator;
            (deposit.value, deposit.gasLimit, deposit.data, accumulator) =
                abi.decode(logs[i].data, (uint256, uint64, bytes, bytes32));
            ++found;
        }
        vm.assertEq(found, 1);
    }

    /// @dev L2 executes the deposit, with the gas that is left of its limit.
    function _execute(Deposit memory deposit) internal returns (bool done, bytes memory answer) {
        uint256 intrinsic = 21_000;
        uint256 floor = 21_000;
        for (uint256 i = 0; i < deposit.data.length; ++i) {
            intrinsic += deposit.data[i] == 0 ? 4 : 16;
            floor += deposit.data[i] == 0 ? 10 : 40;
        }
        vm.assertGe(deposit.gasLimit, floor, "EIP-7623");
        uint256 gas = deposit.gasLimit - intrinsic;
        vm.deal(deposit.from, deposit.from.balance + deposit.value);
        vm.prank(deposit.from, deposit.from);
        (done, answer) = deposit.to.call{gas: gas, value: deposit.value}(deposit.data);
    }

    function _bridgeOver(address token, address from, address to, uint256 amount) internal returns (BridgedToken) {
        (bool done,) = _execute(_deposit(token, from, to, amount));
        vm.assertTrue(done, "the deposit failed on L2");
        return l2Bridge.tokenOf(token);
    }

    // -------------------------------------------------------------- L2 to L1

    /// @dev Withdraws on L2; the message that it sends.
    function _withdraw(address token, address from, address to, uint256 amount) internal returns (Message memory) {
        vm.recordLogs();
        vm.prank(from);
        bytes32 id = l2Bridge.withdraw(token, to, amount);
        Message memory message = _lastMessage();
        vm.assertEq(_id(message), id);
        vm.assertTrue(MessagePasser(payable(L2_PASSER)).sent(id));
        return message;
    }

    function _lastMessage() internal returns (Message memory message) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 found = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != MessagePasser.MessageSent.selector) continue;
            vm.assertEq(logs[i].emitter, L2_PASSER);
            message.nonce = uint64(uint256(logs[i].topics[1]));
            message.sender = _account(logs[i].topics[2]);
            message.target = _account(logs[i].topics[3]);
            bytes32 id;
            (message.value, message.gasLimit, message.data, id) =
                abi.decode(logs[i].data, (uint256, uint64, bytes, bytes32));
            vm.assertEq(id, _id(message));
            ++found;
        }
        vm.assertEq(found, 1);
    }

    /// @dev Commits the message, waits, and relays it; whether it was delivered.
    function _deliver(Message memory message) internal returns (bool) {
        _relay(_final(message), message);
        return rollup.messageStatus(_id(message)) == Rollup.MessageStatus.Delivered;
    }

    function _account(bytes32 topic) private pure returns (address) {
        return address(uint160(uint256(topic)));
    }
}
