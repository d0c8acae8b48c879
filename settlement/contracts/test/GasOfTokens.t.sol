// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {BridgedToken} from "../src/BridgedToken.sol";
import {L2TokenBridge} from "../src/L2TokenBridge.sol";
import {MessagePasser} from "../src/MessagePasser.sol";
import {Rollup} from "../src/Rollup.sol";
import {TokenBridge} from "../src/TokenBridge.sol";
import {Commitment, Message} from "../src/Types.sol";
import {GasMeter} from "./support/GasMeter.sol";
import {MerkleTree} from "./support/MerkleTree.sol";
import {PlainToken} from "./support/Tokens.sol";

/// @dev The token bridge, and the predeploys of L2, in the steady state in which everybody has tokens already. What
/// has to be there is made in `setUp`, so that the transaction that is measured is the first to touch what it touches.
contract GasOfTokensTest is GasMeter {
    uint256 private constant KEY = 0xF1;
    bytes32 private constant PERMIT_TYPEHASH =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    BridgedToken private bridged;
    address private holder;
    /// @dev Tokens on their way back, whose batch is final.
    Message private message;
    Commitment private commitment;
    /// @dev A deposit of a token that L2 knows, and one of a token that it does not.
    Deposit private next;
    Deposit private first;

    function setUp() public override {
        super.setUp();
        holder = vm.addr(KEY);
        bridged = _bridgeOver(address(token), ALICE, BOB, 1_000);
        _bridgeOver(address(token), ALICE, holder, 1_000);
        vm.prank(holder);
        bridged.approve(BOB, 500);
        next = _deposit(address(token), ALICE, BOB, 1_000);
        PlainToken other = new PlainToken("Token", "TOK", 18);
        other.mint(ALICE, 1_000);
        first = _deposit(address(other), ALICE, BOB, 1_000);
        vm.prank(ALICE);
        token.approve(address(bridge), 10_000);

        token.mint(BOB, 1);
        message = _withdraw(address(token), BOB, BOB, 400);
        commitment = _commitRoot(MerkleTree.root(_ids(_list(message))));
        vm.warp(commitment.finalAt);
    }

    // --------------------------------------------------------------------- L1

    function test_gas_of_a_deposit() public {
        bytes memory input = abi.encodeCall(TokenBridge.deposit, (token, BOB, 1_000));
        _measure("TokenBridge.deposit", ALICE, address(bridge), 0, input);
    }

    function test_gas_of_a_return() public {
        bytes memory input = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
        string memory name = "TokenBridge.finishWithdrawal, by Rollup.relayMessage";
        uint256 gas = _measure(name, STRANGER, address(rollup), 0, input);
        vm.assertEq(token.balanceOf(BOB), 401);
        vm.assertLe(gas, l2Bridge.WITHDRAWAL_GAS(), "of which the call is only a part");
    }

    // --------------------------------------------------------- bridge and L2

    function test_gas_of_a_token_s_first_deposit_on_L2() public {
        _measure("L2TokenBridge.finishDeposit, first of a token", first.from, first.to, 0, first.data);
    }

    function test_gas_of_a_token_s_next_deposit_on_L2() public {
        _measure("L2TokenBridge.finishDeposit, next of a token", next.from, next.to, 0, next.data);
    }

    function test_gas_of_a_withdrawal_on_L2() public {
        bytes memory input = abi.encodeCall(L2TokenBridge.withdraw, (address(token), BOB, 500));
        _measure("L2TokenBridge.withdraw", BOB, L2_BRIDGE, 0, input);
    }

    function test_gas_of_a_message_on_L2() public {
        bytes memory input = abi.encodeCall(MessagePasser.sendMessage, (BOB, 100_000, ""));
        _measure("MessagePasser.sendMessage", ALICE, L2_PASSER, 1, input);
    }

    function test_gas_of_a_plain_transfer_to_withdraw() public {
        _measure("MessagePasser.receive", ALICE, L2_PASSER, 1, "");
    }

    // ------------------------------------------------------ the bridged token

    function test_gas_of_what_the_bridge_does_with_a_token() public {
        bytes memory input = abi.encodeCall(BridgedToken.initialize, (address(token), "Token", "TOK", 18));
        _measure("BridgedToken.initialize, without its clone", L2_BRIDGE, L2_TOKEN_CODE, 0, input);
        input = abi.encodeCall(BridgedToken.mint, (BOB, 1));
        _measure("BridgedToken.mint, by the bridge's call", L2_BRIDGE, address(bridged), 0, input);
    }

    function test_gas_of_what_the_bridge_takes_of_a_token() public {
        bytes memory input = abi.encodeCall(BridgedToken.burn, (BOB, 1));
        _measure("BridgedToken.burn, by the bridge's call", L2_BRIDGE, address(bridged), 0, input);
    }

    function test_gas_of_a_token_s_transfer() public {
        bytes memory input = abi.encodeCall(IERC20.transfer, (holder, 1));
        _measure("BridgedToken.transfer", BOB, address(bridged), 0, input);
    }

    function test_gas_of_a_token_s_transfer_by_another() public {
        bytes memory input = abi.encodeCall(IERC20.transferFrom, (holder, BOB, 1));
        _measure("BridgedToken.transferFrom", BOB, address(bridged), 0, input);
    }

    function test_gas_of_an_approval() public {
        bytes memory input = abi.encodeCall(IERC20.approve, (STRANGER, 1));
        _measure("BridgedToken.approve", holder, address(bridged), 0, input);
    }

    function test_gas_of_a_permit() public {
        uint256 deadline = vm.getBlockTimestamp();
        bytes32 permit = keccak256(abi.encode(PERMIT_TYPEHASH, holder, STRANGER, 1, 0, deadline));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", bridged.DOMAIN_SEPARATOR(), permit));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
        bytes memory input = abi.encodeCall(IERC20Permit.permit, (holder, STRANGER, 1, deadline, v, r, s));
        _measure("BridgedToken.permit", STRANGER, address(bridged), 0, input);
        vm.assertEq(bridged.allowance(holder, STRANGER), 1);
    }
}
