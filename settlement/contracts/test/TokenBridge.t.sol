// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {BridgedToken} from "../src/BridgedToken.sol";
import {L2TokenBridge} from "../src/L2TokenBridge.sol";
import {Rollup} from "../src/Rollup.sol";
import {TokenBridge} from "../src/TokenBridge.sol";
import {Commitment, Message} from "../src/Types.sol";
import {BridgeTest} from "./support/BridgeTest.sol";
import {
    BlocklistToken,
    FalseToken,
    FeeToken,
    HookToken,
    Intruder,
    OddToken,
    PlainToken,
    SilentToken
} from "./support/Tokens.sol";

/// @dev Tokens there and back, and tokens of every kind.
contract TokenBridgeTest is BridgeTest {
    PlainToken private token;

    function setUp() public override {
        super.setUp();
        token = new PlainToken("Millrace Coin", "MILL", 8);
        token.mint(ALICE, 1_000);
    }

    // --------------------------------------------------------- there and back

    function test_a_deposit_takes_tokens_and_tells_L2() public {
        vm.prank(ALICE);
        token.approve(address(bridge), 600);
        vm.expectEmit(address(bridge));
        emit TokenBridge.DepositStarted(token, ALICE, BOB, 600);
        vm.recordLogs();
        vm.prank(ALICE, ALICE);
        bridge.deposit(token, BOB, 600);

        Deposit memory deposit = _lastDeposit();
        vm.assertEq(deposit.from, BRIDGE_ON_L2);
        vm.assertEq(deposit.to, L2_BRIDGE);
        vm.assertEq(deposit.value, 0);
        vm.assertEq(deposit.gasLimit, bridge.DEPOSIT_GAS());
        L2TokenBridge.Metadata memory metadata =
            L2TokenBridge.Metadata({name: "Millrace Coin", symbol: "MILL", decimals: 8});
        vm.assertEq(
            deposit.data, abi.encodeCall(L2TokenBridge.finishDeposit, (address(token), ALICE, BOB, 600, metadata))
        );
        vm.assertEq(token.balanceOf(address(bridge)), 600);
        vm.assertEq(token.balanceOf(ALICE), 400);
        vm.assertEq(bridge.deposited(token), 600);
    }

    function test_tokens_arrive_on_L2_as_what_they_are() public {
        Deposit memory deposit = _deposit(address(token), ALICE, BOB, 600);
        vm.expectEmit(L2_BRIDGE);
        emit L2TokenBridge.DepositFinished(address(token), ALICE, BOB, 600);
        _execute(deposit);
        BridgedToken bridged = l2Bridge.tokenOf(address(token));
        vm.assertEq(bridged.balanceOf(BOB), 600);
        vm.assertEq(bridged.totalSupply(), 600);
        vm.assertEq(bridged.name(), "Millrace Coin");
        vm.assertEq(bridged.symbol(), "MILL");
        vm.assertEq(bridged.decimals(), 8);
        vm.assertEq(bridged.l1Token(), address(token));
    }

    function test_a_token_has_one_counterpart() public {
        BridgedToken bridged = _bridgeOver(address(token), ALICE, BOB, 100);
        vm.assertEq(address(_bridgeOver(address(token), ALICE, BOB, 50)), address(bridged));
        vm.assertEq(bridged.balanceOf(BOB), 150);
        vm.assertEq(bridge.deposited(token), 150);

        PlainToken other = new PlainToken("Millrace Coin", "MILL", 8);
        other.mint(ALICE, 10);
        BridgedToken bridgedOther = _bridgeOver(address(other), ALICE, BOB, 10);
        vm.assertTrue(address(bridgedOther) != address(bridged));
        vm.assertEq(bridged.balanceOf(BOB), 150);
    }

    function test_tokens_come_back() public {
        BridgedToken bridged = _bridgeOver(address(token), ALICE, BOB, 600);
        Message memory message = _withdraw(address(token), BOB, STRANGER, 250);
        vm.assertEq(bridged.balanceOf(BOB), 350);
        vm.assertEq(bridged.totalSupply(), 350);
        vm.assertEq(message.sender, L2_BRIDGE);
        vm.assertEq(message.target, L2_BRIDGE);
        vm.assertEq(message.value, 0);
        vm.assertEq(message.gasLimit, l2Bridge.WITHDRAWAL_GAS());
        vm.assertEq(message.data, abi.encodeCall(TokenBridge.finishWithdrawal, (token, BOB, STRANGER, 250)));

        Commitment memory commitment = _final(message);
        vm.expectEmit(address(bridge));
        emit TokenBridge.WithdrawalFinished(token, BOB, STRANGER, 250);
        _relay(commitment, message);
        _assertStatus(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(token.balanceOf(STRANGER), 250);
        vm.assertEq(token.balanceOf(address(bridge)), 350);
        vm.assertEq(bridge.deposited(token), 350);

        vm.assertTrue(_deliver(_withdraw(address(token), BOB, BOB, 350)));
        vm.assertEq(token.balanceOf(BOB), 350);
        vm.assertEq(bridge.deposited(token), 0);
        vm.assertEq(bridged.totalSupply(), 0);
    }

    function test_a_withdrawal_is_paid_once() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        Message memory message = _withdraw(address(token), BOB, BOB, 100);
        Commitment memory commitment = _final(message);
        _relay(commitment, message);
        vm.expectRevert(
            abi.encodeWithSelector(Rollup.MessageRelayedBefore.selector, _id(message), Rollup.MessageStatus.Delivered)
        );
        _relay(commitment, message);
        vm.assertEq(token.balanceOf(BOB), 100);
    }

    /// @dev A proxy keeps its storage when its code changes: what moves these would pay, or refuse, a second time.
    function test_what_is_paid_and_what_is_left_is_in_its_slots() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        Message memory message = _withdraw(address(token), BOB, BOB, 100);
        vm.assertTrue(_deliver(message));
        vm.assertEq(uint256(vm.load(address(rollup), keccak256(abi.encode(_id(message), 7)))), 2);
        vm.assertEq(uint256(vm.load(address(bridge), keccak256(abi.encode(token, 1)))), 500);
    }

    function test_a_contract_deposits_as_itself() public {
        token.mint(address(this), 10);
        token.approve(address(bridge), 10);
        vm.recordLogs();
        bridge.deposit(token, BOB, 10);
        Deposit memory deposit = _lastDeposit();
        vm.assertEq(deposit.from, BRIDGE_ON_L2);
        (, address from,,,) =
            abi.decode(_arguments(deposit.data), (address, address, address, uint256, L2TokenBridge.Metadata));
        vm.assertEq(from, address(this));
    }

    function test_tokens_do_not_move_while_deposits_are_paused() public {
        vm.prank(GUARDIAN);
        rollup.pause();
        vm.prank(ALICE);
        token.approve(address(bridge), 10);
        vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.prank(ALICE);
        bridge.deposit(token, BOB, 10);
        vm.assertEq(token.balanceOf(ALICE), 1_000);
    }

    function test_tokens_come_back_while_paused() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        Message memory message = _withdraw(address(token), BOB, BOB, 100);
        Commitment memory commitment = _final(message);
        vm.prank(GUARDIAN);
        rollup.pause();
        _relay(commitment, message);
        vm.assertEq(token.balanceOf(BOB), 100);
    }

    // ------------------------------------------------------------------ rules

    function test_a_deposit_names_a_recipient() public {
        vm.expectRevert(abi.encodeWithSelector(TokenBridge.RecipientZero.selector));
        vm.prank(ALICE);
        bridge.deposit(token, address(0), 1);
    }

    function test_an_account_is_no_token() public {
        vm.expectRevert(abi.encodeWithSelector(TokenBridge.NotAToken.selector, STRANGER));
        vm.prank(ALICE);
        bridge.deposit(IERC20(STRANGER), BOB, 1);
    }

    function test_nothing_is_no_deposit() public {
        vm.expectRevert(abi.encodeWithSelector(TokenBridge.NothingDeposited.selector));
        vm.prank(ALICE);
        bridge.deposit(token, BOB, 0);
    }

    function test_tokens_have_to_be_approved() public {
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(bridge), 0, 1));
        vm.prank(ALICE);
        bridge.deposit(token, BOB, 1);
    }

    /// @dev What somebody else has approved is nobody's to deposit.
    function test_only_the_depositor_s_tokens_are_taken() public {
        vm.prank(ALICE);
        token.approve(address(bridge), 1_000);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(bridge), 0, 1));
        vm.prank(STRANGER);
        bridge.deposit(token, STRANGER, 1);
    }

    function test_a_token_that_answers_false_is_refused() public {
        FalseToken false_ = new FalseToken();
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(false_)));
        bridge.deposit(IERC20(address(false_)), BOB, 1);
    }

    // --------------------------------------------------------- who pays out

    function test_nobody_pays_out_directly() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        address[4] memory others = [STRANGER, OWNER, address(timelock), L2_BRIDGE];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(TokenBridge.NotTheBridge.selector, others[i]));
            vm.prank(others[i]);
            bridge.finishWithdrawal(token, BOB, STRANGER, 1);
        }
        // Not even the rollup, unless it delivers a message.
        vm.expectRevert(abi.encodeWithSelector(Rollup.NoMessage.selector));
        vm.prank(address(rollup));
        bridge.finishWithdrawal(token, BOB, STRANGER, 1);
    }

    function test_nobody_else_s_message_pays_out() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        address[2] memory targets = [L2_BRIDGE, address(bridge)];
        address[4] memory senders = [STRANGER, address(bridge), address(rollup), BRIDGE_ON_L2];
        uint64 nonce = 100;
        for (uint256 i = 0; i < targets.length; ++i) {
            for (uint256 j = 0; j < senders.length; ++j) {
                Message memory message = _message(nonce++, targets[i], 0);
                message.sender = senders[j];
                message.gasLimit = 300_000;
                message.data = abi.encodeCall(TokenBridge.finishWithdrawal, (token, BOB, STRANGER, 600));
                vm.assertFalse(_deliver(message));
            }
        }
        vm.assertEq(token.balanceOf(STRANGER), 0);
        vm.assertEq(bridge.deposited(token), 600);
    }

    /// @dev Sent through the predeploy, which names the sender.
    function test_a_forged_withdrawal_is_not_paid() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        bytes memory call = abi.encodeCall(TokenBridge.finishWithdrawal, (token, STRANGER, STRANGER, 600));
        vm.recordLogs();
        vm.prank(STRANGER, STRANGER);
        (bool sent,) = L2_PASSER.call(
            abi.encodeWithSignature("sendMessage(address,uint64,bytes)", L2_BRIDGE, uint64(300_000), call)
        );
        vm.assertTrue(sent);
        vm.assertFalse(_deliver(_lastMessage()));
        vm.assertEq(token.balanceOf(STRANGER), 0);
    }

    /// @dev A contract that a message calls is not the rollup, whoever sent the message.
    function test_a_target_of_a_message_pays_nothing_out() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        Intruder intruder = new Intruder();
        Message memory message = _message(100, address(intruder), 0);
        message.sender = L2_BRIDGE;
        message.gasLimit = 500_000;
        message.data = abi.encodeCall(
            Intruder.act, (address(bridge), abi.encodeCall(TokenBridge.finishWithdrawal, (token, BOB, STRANGER, 600)))
        );
        vm.assertFalse(_deliver(message));
        vm.assertEq(token.balanceOf(STRANGER), 0);
    }

    /// @dev Were L2 to make tokens from nothing, no more than was deposited would leave, of each token.
    function test_no_more_leaves_than_was_deposited() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        PlainToken other = new PlainToken("Other", "OTH", 18);
        other.mint(address(bridge), 5_000);
        Message memory message = _message(100, L2_BRIDGE, 0);
        message.sender = L2_BRIDGE;
        message.data = abi.encodeCall(TokenBridge.finishWithdrawal, (token, BOB, BOB, 601));
        vm.assertFalse(_deliver(message));
        message.nonce += 1;
        message.data = abi.encodeCall(TokenBridge.finishWithdrawal, (other, BOB, BOB, 1));
        vm.assertFalse(_deliver(message));
        message.nonce += 1;
        message.data = abi.encodeCall(TokenBridge.finishWithdrawal, (token, BOB, BOB, 600));
        vm.assertTrue(_deliver(message));
        vm.assertEq(token.balanceOf(BOB), 600);
        vm.assertEq(other.balanceOf(BOB), 0);
    }

    // --------------------------------------------------- tokens of every kind

    function test_what_arrives_counts() public {
        FeeToken fee = new FeeToken();
        fee.mint(ALICE, 1_000);
        BridgedToken bridged = _bridgeOver(address(fee), ALICE, BOB, 1_000);
        vm.assertEq(bridged.balanceOf(BOB), 900);
        vm.assertEq(bridge.deposited(fee), 900);
        vm.assertEq(fee.balanceOf(address(bridge)), 900);
        vm.assertTrue(_deliver(_withdraw(address(fee), BOB, BOB, 900)));
        vm.assertEq(fee.balanceOf(BOB), 810);
        vm.assertEq(bridge.deposited(fee), 0);
    }

    function test_a_token_that_answers_nothing_goes_there_and_back() public {
        SilentToken silent = new SilentToken();
        silent.mint(ALICE, 500);
        BridgedToken bridged = _bridgeOver(address(silent), ALICE, BOB, 500);
        vm.assertEq(bridged.balanceOf(BOB), 500);
        vm.assertEq(bridged.name(), "Silent Dollar");
        vm.assertEq(bridged.decimals(), 6);
        vm.assertTrue(_deliver(_withdraw(address(silent), BOB, BOB, 500)));
        vm.assertEq(silent.balanceOf(BOB), 500);
    }

    function test_a_token_that_wants_its_allowance_taken_back_first_is_deposited_again() public {
        SilentToken silent = new SilentToken();
        silent.mint(ALICE, 700);
        vm.prank(ALICE);
        silent.approve(address(bridge), 500);
        vm.prank(ALICE, ALICE);
        bridge.deposit(IERC20(address(silent)), BOB, 200);
        vm.expectRevert(abi.encodeWithSelector(SilentToken.AllowanceStands.selector, 300));
        vm.prank(ALICE);
        silent.approve(address(bridge), 500);
        vm.prank(ALICE);
        silent.approve(address(bridge), 0);
        BridgedToken bridged = _bridgeOver(address(silent), ALICE, BOB, 500);
        // The first deposit is still on its way.
        vm.assertEq(bridged.balanceOf(BOB), 500);
        vm.assertEq(bridge.deposited(IERC20(address(silent))), 700);
        vm.assertEq(silent.allowance(ALICE, address(bridge)), 0);
    }

    function test_names_of_32_bytes_are_read() public {
        OddToken odd = _oddToken();
        odd.set("name()", OddToken.Manner.Answers, bytes.concat(bytes32("Maker")));
        odd.set("symbol()", OddToken.Manner.Answers, bytes.concat(bytes32("ThirtyTwoBytesWithoutAnyZeroByte")));
        odd.set("decimals()", OddToken.Manner.Answers, abi.encode(18));
        _assertMetadata(odd, "Maker", "ThirtyTwoBytesWithoutAnyZeroByte", 18);
    }

    function test_a_token_that_says_nothing_is_taken() public {
        OddToken odd = _oddToken();
        _assertMetadata(odd, "", "", 18);
    }

    function test_a_token_that_will_not_say_is_taken() public {
        for (uint256 manner = 1; manner <= 3; ++manner) {
            OddToken odd = _oddToken();
            bytes memory answer = abi.encode("not this");
            odd.set("name()", OddToken.Manner(manner), answer);
            odd.set("symbol()", OddToken.Manner(manner), answer);
            odd.set("decimals()", OddToken.Manner(manner), abi.encode(6));
            _assertMetadata(odd, "", "", 18);
        }
    }

    function test_a_token_that_answers_garbage_is_taken() public {
        bytes[6] memory garbage = [
            // Less than a word; an offset elsewhere, and far away; a length, and nothing of that length.
            bytes(hex"11223344"),
            abi.encode(uint256(64), uint256(2), bytes32("ab")),
            abi.encode(type(uint256).max, uint256(2), bytes32("ab")),
            abi.encode(uint256(32), uint256(2)),
            abi.encode(uint256(32), type(uint256).max),
            bytes.concat(new bytes(63), hex"01")
        ];
        for (uint256 i = 0; i < garbage.length; ++i) {
            OddToken odd = _oddToken();
            odd.set("name()", OddToken.Manner.Answers, garbage[i]);
            odd.set("symbol()", OddToken.Manner.Answers, garbage[i]);
            odd.set("decimals()", OddToken.Manner.Answers, abi.encode(256 + i));
            _assertMetadata(odd, "", "", 18);
        }
    }

    /// @dev Such a text ends with the answer, whose zero bytes are taken for a part of it.
    function test_a_length_beyond_the_answer_ends_with_it() public {
        uint256[3] memory lengths = [uint256(33), type(uint256).max - 63, type(uint256).max];
        for (uint256 i = 0; i < lengths.length; ++i) {
            OddToken odd = _oddToken();
            odd.set("name()", OddToken.Manner.Answers, abi.encode(uint256(32), lengths[i], bytes32("ab")));
            odd.set("symbol()", OddToken.Manner.Answers, abi.encodePacked(uint256(32), lengths[i], "ab"));
            odd.set("decimals()", OddToken.Manner.Answers, abi.encode(6));
            _assertMetadata(odd, string(abi.encodePacked(bytes32("ab"))), "ab", 6);
        }
    }

    function test_a_token_that_answers_at_great_length_is_taken() public {
        OddToken odd = _oddToken();
        // 20,000 bytes each, all zero.
        odd.set("name()", OddToken.Manner.Answers, hex"01");
        odd.set("symbol()", OddToken.Manner.Answers, hex"01");
        odd.set("decimals()", OddToken.Manner.Answers, hex"01");
        _assertMetadata(odd, "", "", 0);
    }

    function test_long_names_are_cut() public {
        OddToken odd = _oddToken();
        odd.set("name()", OddToken.Manner.Answers, abi.encode(string(_letters(65))));
        odd.set("symbol()", OddToken.Manner.Answers, abi.encode(string(_letters(64))));
        odd.set("decimals()", OddToken.Manner.Answers, abi.encode(255));
        _assertMetadata(odd, string(_letters(64)), string(_letters(64)), 255);

        // No more than 256 bytes of an answer are looked at, 64 of which come before the text.
        uint256[5] memory lengths = [uint256(191), 192, 193, 300, 10_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            odd = _oddToken();
            odd.set("name()", OddToken.Manner.Answers, abi.encode(string(_letters(lengths[i]))));
            odd.set("symbol()", OddToken.Manner.Answers, abi.encode(""));
            odd.set("decimals()", OddToken.Manner.Answers, abi.encode(0));
            _assertMetadata(odd, string(_letters(64)), "", 0);
        }
    }

    /// @dev Whatever a token says, its first deposit is executed, and costs the one who deposits a bounded amount.
    function test_a_token_that_burns_gas_costs_a_bounded_amount() public {
        OddToken odd = _oddToken();
        odd.set("name()", OddToken.Manner.Burns, "");
        odd.set("symbol()", OddToken.Manner.Burns, "");
        odd.set("decimals()", OddToken.Manner.Burns, "");
        vm.prank(ALICE);
        bridge.deposit{gas: 500_000}(IERC20(address(odd)), BOB, 1);
    }

    /// @dev Whoever deposits first fixes what L2 calls the token: too little gas must not be a way to unname it.
    function test_too_little_gas_does_not_unname_a_token() public {
        PlainToken named = new PlainToken("Named", "NAME", 6);
        named.mint(ALICE, 1_000_000);
        vm.prank(ALICE);
        named.approve(address(bridge), type(uint256).max);
        bytes memory call = abi.encodeCall(TokenBridge.deposit, (named, BOB, 1));
        uint256 deposits = 0;
        for (uint256 gas = 30_000; gas < 300_000; gas += 250) {
            vm.cool(address(named));
            vm.recordLogs();
            vm.prank(ALICE, ALICE);
            (bool done,) = address(bridge).call{gas: gas}(call);
            if (!done) continue;
            ++deposits;
            (,,,, L2TokenBridge.Metadata memory metadata) = abi.decode(
                _arguments(_lastDeposit().data), (address, address, address, uint256, L2TokenBridge.Metadata)
            );
            vm.assertEq(metadata.name, "Named");
            vm.assertEq(metadata.symbol, "NAME");
            vm.assertEq(metadata.decimals, 6);
        }
        vm.assertGe(deposits, 100);
    }

    function test_a_recipient_that_is_refused_can_be_paid_later() public {
        BlocklistToken blocklist = new BlocklistToken();
        blocklist.mint(ALICE, 100);
        _bridgeOver(address(blocklist), ALICE, BOB, 100);
        blocklist.setBlocked(BOB, true);
        Message memory message = _withdraw(address(blocklist), BOB, BOB, 40);
        vm.assertFalse(_deliver(message));
        vm.assertEq(bridge.deposited(blocklist), 100);
        vm.expectRevert(abi.encodeWithSelector(Rollup.MessageFailedAgain.selector, _id(message)));
        rollup.retryMessage(message);

        blocklist.setBlocked(BOB, false);
        rollup.retryMessage(message);
        vm.assertEq(blocklist.balanceOf(BOB), 40);
        vm.assertEq(bridge.deposited(blocklist), 60);
    }

    /// @dev It would leave the books, and stay: what is in the bridge and in no books is nobody's.
    function test_the_bridge_does_not_pay_itself() public {
        _bridgeOver(address(token), ALICE, BOB, 600);
        Message memory message = _withdraw(address(token), BOB, address(bridge), 100);
        vm.assertFalse(_deliver(message));
        _assertStatus(message, Rollup.MessageStatus.Failed);
        vm.expectRevert(abi.encodeWithSelector(Rollup.MessageFailedAgain.selector, _id(message)));
        rollup.retryMessage(message);
        _assertStatus(message, Rollup.MessageStatus.Failed);
        vm.assertEq(bridge.deposited(token), 600);
        vm.assertEq(token.balanceOf(address(bridge)), 600);

        // What others have there is paid out.
        vm.assertTrue(_deliver(_withdraw(address(token), BOB, BOB, 500)));
        vm.assertEq(bridge.deposited(token), 100);
    }

    // --------------------------------------------------------- re-entrancy

    function test_a_depositor_who_deposits_meanwhile_gains_nothing() public {
        (HookToken hook, Intruder intruder) = _hooked();
        bytes memory deposit = abi.encodeCall(TokenBridge.deposit, (hook, BOB, 50));
        intruder.intrude(address(bridge), deposit);
        vm.recordLogs();
        intruder.act(address(bridge), abi.encodeCall(TokenBridge.deposit, (hook, BOB, 100)));
        _execute(_lastDeposit());
        _assertIntrusionFailed(intruder);
        vm.assertEq(l2Bridge.tokenOf(address(hook)).balanceOf(BOB), 100);
        vm.assertEq(hook.balanceOf(address(bridge)), 100);
        vm.assertEq(bridge.deposited(hook), 100);
    }

    /// @dev A withdrawal in the middle of a deposit would lower the balance that the deposit is measured by.
    function test_a_depositor_who_withdraws_meanwhile_gains_and_loses_nothing() public {
        (HookToken hook, Intruder intruder) = _hooked();
        intruder.act(address(bridge), abi.encodeCall(TokenBridge.deposit, (hook, BOB, 100)));
        _execute(Deposit(BRIDGE_ON_L2, L2_BRIDGE, 0, 800_000, _finishDeposit(hook, BOB, 100)));
        Message memory message = _withdraw(address(hook), BOB, BOB, 60);
        Commitment memory commitment = _final(message);
        intruder.intrude(address(rollup), abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0))));
        intruder.act(address(bridge), abi.encodeCall(TokenBridge.deposit, (hook, BOB, 50)));
        vm.assertEq(bridge.deposited(hook), 150);
        vm.assertEq(hook.balanceOf(address(bridge)), 150);
        _assertStatus(message, Rollup.MessageStatus.Failed);
        rollup.retryMessage(message);
        vm.assertEq(hook.balanceOf(BOB), 60);
        vm.assertEq(bridge.deposited(hook), 90);
    }

    function test_a_recipient_who_comes_back_is_paid_once() public {
        (HookToken hook, Intruder intruder) = _hooked();
        intruder.act(address(bridge), abi.encodeCall(TokenBridge.deposit, (hook, BOB, 400)));
        _execute(Deposit(BRIDGE_ON_L2, L2_BRIDGE, 0, 800_000, _finishDeposit(hook, BOB, 400)));
        Message[] memory both = _list(
            _withdraw(address(hook), BOB, address(intruder), 100), _withdraw(address(hook), BOB, address(intruder), 100)
        );
        Commitment memory one = _final(both[0]);
        Commitment memory two = _final(both[1]);

        // It relays the other one; it deposits what it is just being paid; it asks the bridge itself.
        intruder.intrude(address(rollup), abi.encodeCall(Rollup.relayMessage, (two, both[1], new bytes32[](0))));
        _relay(one, both[0]);
        _assertIntrusionFailed(intruder);
        intruder.intrude(address(bridge), abi.encodeCall(TokenBridge.deposit, (hook, BOB, 1)));
        _relay(two, both[1]);
        _assertIntrusionFailed(intruder);
        vm.assertEq(hook.balanceOf(address(intruder)), 800);
        vm.assertEq(bridge.deposited(hook), 200);
        vm.assertEq(hook.balanceOf(address(bridge)), 200);

        Message memory third = _withdraw(address(hook), BOB, address(intruder), 100);
        intruder.intrude(
            address(bridge), abi.encodeCall(TokenBridge.finishWithdrawal, (hook, BOB, address(intruder), 100))
        );
        vm.assertTrue(_deliver(third));
        _assertIntrusionFailed(intruder);
        vm.assertEq(bridge.deposited(hook), 100);
        vm.assertEq(hook.balanceOf(address(bridge)), 100);
    }

    // ---------------------------------------------------------------- gas

    /// @dev The most that a first deposit costs L2: the longest names, nothing of it warm.
    function test_a_first_deposit_fits_its_gas() public {
        PlainToken long = new PlainToken(string(_letters(64)), string(_letters(64)), 255);
        long.mint(ALICE, type(uint256).max);
        Deposit memory deposit = _deposit(address(long), ALICE, BOB, type(uint256).max);
        vm.cool(L2_BRIDGE);
        vm.cool(L2_TOKEN_CODE);
        (bool done,) = _execute(deposit);
        vm.assertTrue(done);
        uint256 gas = vm.lastCallGas().gasTotalUsed + 21_000;
        for (uint256 i = 0; i < deposit.data.length; ++i) {
            gas += deposit.data[i] == 0 ? 4 : 16;
        }
        vm.assertLe(gas, bridge.DEPOSIT_GAS());
        // With a margin for other prices of gas.
        vm.assertLe(gas, bridge.DEPOSIT_GAS() * 3 / 4, "little is left of the limit");
        vm.assertEq(l2Bridge.tokenOf(address(long)).balanceOf(BOB), type(uint256).max);
    }

    // --------------------------------------------------------------- fuzz

    function testFuzz_any_amount_goes_there_and_back(uint256 minted, uint256 there, uint256 back) public {
        PlainToken any = new PlainToken("Any", "ANY", 18);
        minted = _between(minted, 1, type(uint256).max - 1);
        there = _between(there, 1, minted);
        back = _between(back, 0, there - 1) + 1;
        any.mint(ALICE, minted);
        BridgedToken bridged = _bridgeOver(address(any), ALICE, BOB, there);
        vm.assertEq(bridged.balanceOf(BOB), there);
        vm.assertTrue(_deliver(_withdraw(address(any), BOB, STRANGER, back)));
        vm.assertEq(any.balanceOf(STRANGER), back);
        vm.assertEq(any.balanceOf(address(bridge)), there - back);
        vm.assertEq(bridge.deposited(any), there - back);
        vm.assertEq(bridged.totalSupply(), there - back);
    }

    /// @dev A token can say what it wants of itself, and is taken.
    function testFuzz_any_answers_are_taken(bytes calldata name, bytes calldata symbol, bytes calldata decimals)
        public
    {
        OddToken odd = _oddToken();
        odd.set("name()", OddToken.Manner.Answers, name);
        odd.set("symbol()", OddToken.Manner.Answers, symbol);
        odd.set("decimals()", OddToken.Manner.Answers, decimals);
        BridgedToken bridged = _bridgeOver(address(odd), ALICE, BOB, 7);
        vm.assertEq(bridged.balanceOf(BOB), 7);
        vm.assertLe(bytes(bridged.name()).length, 64);
        vm.assertLe(bytes(bridged.symbol()).length, 64);
    }

    function testFuzz_any_name_arrives(bytes calldata name, uint8 decimals) public {
        OddToken odd = _oddToken();
        odd.set("name()", OddToken.Manner.Answers, abi.encode(name));
        odd.set("symbol()", OddToken.Manner.Answers, abi.encode(name));
        odd.set("decimals()", OddToken.Manner.Answers, abi.encode(decimals));
        string memory expected = string(name.length > 64 ? name[:64] : name);
        _assertMetadata(odd, expected, expected, decimals);
    }

    // ------------------------------------------------------------- helpers

    function _oddToken() private returns (OddToken odd) {
        odd = new OddToken();
        odd.mint(ALICE, 1_000);
    }

    function _assertMetadata(OddToken odd, string memory name, string memory symbol, uint8 decimals) private {
        BridgedToken bridged = _bridgeOver(address(odd), ALICE, BOB, 10);
        vm.assertEq(bridged.name(), name);
        vm.assertEq(bridged.symbol(), symbol);
        vm.assertEq(uint256(bridged.decimals()), decimals);
        vm.assertEq(bridged.balanceOf(BOB), 10);
    }

    function _hooked() private returns (HookToken hook, Intruder intruder) {
        hook = new HookToken();
        intruder = new Intruder();
        hook.mint(address(intruder), 1_000);
        intruder.register(hook);
        intruder.act(address(hook), abi.encodeCall(IERC20.approve, (address(bridge), type(uint256).max)));
    }

    function _assertIntrusionFailed(Intruder intruder) private view {
        vm.assertGe(intruder.tries(), 1);
        vm.assertFalse(intruder.succeeded());
        vm.assertEq(
            intruder.answer(), abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector)
        );
    }

    function _finishDeposit(HookToken hook, address to, uint256 amount) private view returns (bytes memory) {
        L2TokenBridge.Metadata memory metadata =
            L2TokenBridge.Metadata({name: hook.name(), symbol: hook.symbol(), decimals: 18});
        return abi.encodeCall(L2TokenBridge.finishDeposit, (address(hook), ALICE, to, amount, metadata));
    }

    function _letters(uint256 count) private pure returns (bytes memory letters) {
        letters = new bytes(count);
        for (uint256 i = 0; i < count; ++i) {
            letters[i] = bytes1(uint8(97 + i % 26));
        }
    }

    function _arguments(bytes memory call) private pure returns (bytes memory arguments) {
        arguments = new bytes(call.length - 4);
        for (uint256 i = 0; i < arguments.length; ++i) {
            arguments[i] = call[i + 4];
        }
    }
}
