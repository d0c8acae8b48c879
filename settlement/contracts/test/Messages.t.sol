// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {MessagePasser} from "../src/MessagePasser.sol";
import {Rollup} from "../src/Rollup.sol";
import {Commitment, Message} from "../src/Types.sol";
import {MerkleTree} from "./support/MerkleTree.sol";
import {RelayTest} from "./support/RelayTest.sol";
import {Bomb, Burner, GasMeter, Recorder, Reentrant} from "./support/Targets.sol";

/// @dev Delivery of messages from L2: which are delivered, how their targets are called, and what comes of failures.
contract MessagesTest is RelayTest {
    Recorder private recorder;

    function setUp() public override {
        super.setUp();
        recorder = new Recorder(rollup);
    }

    // -------------------------------------------------------------- delivery

    function test_the_target_is_called_with_everything() public {
        Message memory message = Message({
            nonce: 7,
            sender: BOB,
            target: address(recorder),
            value: 2 ether,
            gasLimit: 300_000,
            data: hex"00112233445566778899"
        });
        Commitment memory commitment = _final(message);
        vm.expectEmit(address(rollup));
        emit Rollup.MessageRelayed(_id(message), true);
        vm.prank(STRANGER);
        _relay(commitment, message);

        _assertStatus(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(recorder.calls(), 1);
        vm.assertEq(recorder.lastCaller(), address(rollup));
        vm.assertEq(recorder.lastSender(), BOB);
        vm.assertEq(recorder.lastValue(), 2 ether);
        vm.assertEq(recorder.lastData(), hex"00112233445566778899");
        vm.assertEq(address(recorder).balance, 2 ether);
        vm.assertEq(address(rollup).balance, HELD - 2 ether);
    }

    function test_an_account_is_paid() public {
        Message memory message = _message(0, BOB, 1 ether);
        _relay(_final(message), message);
        vm.assertEq(BOB.balance, 1 ether);
        vm.assertEq(address(rollup).balance, HELD - 1 ether);
    }

    function test_the_id_is_that_of_the_predeploy() public {
        MessagePasser passer = new MessagePasser();
        vm.deal(BOB, 1 ether);
        vm.prank(BOB);
        bytes32 id = passer.sendMessage{value: 3}(ALICE, 200_000, hex"c0ffee");
        Message memory message =
            Message({nonce: 0, sender: BOB, target: ALICE, value: 3, gasLimit: 200_000, data: hex"c0ffee"});
        vm.assertEq(rollup.messageId(message), id);
        vm.assertEq(_id(message), id);
    }

    /// @dev Trees of every shape, and in each every leaf.
    function test_every_message_of_a_batch_has_a_proof() public {
        for (uint64 count = 1; count <= 17; ++count) {
            Message[] memory messages = new Message[](count);
            for (uint64 i = 0; i < count; ++i) {
                messages[i] = _message(count * 100 + i, address(uint160(0xD000) + count * 100 + i), 1 gwei + i);
            }
            Commitment memory commitment = _finalMessages(messages);
            bytes32[] memory ids = _ids(messages);
            for (uint64 i = 0; i < count; ++i) {
                rollup.relayMessage(commitment, messages[i], MerkleTree.proof(ids, i));
                vm.assertEq(messages[i].target.balance, 1 gwei + i);
            }
        }
    }

    /// @dev Worked out by hand: two pairs, and a fifth that moves up twice.
    function test_the_tree_is_built_as_documented() public pure {
        bytes32[] memory ids = new bytes32[](5);
        bytes32[] memory leaves = new bytes32[](5);
        for (uint256 i = 0; i < 5; ++i) {
            ids[i] = keccak256(abi.encode(i));
            leaves[i] = keccak256(abi.encode(ids[i]));
        }
        bytes32 four = _pair(_pair(leaves[0], leaves[1]), _pair(leaves[2], leaves[3]));
        vm.assertEq(MerkleTree.root(ids), _pair(four, leaves[4]));
        vm.assertEq(MerkleTree.proof(ids, 4).length, 1);
        vm.assertEq(MerkleTree.proof(ids, 4)[0], four);
        vm.assertEq(MerkleTree.proof(ids, 0).length, 3);
    }

    // ---------------------------------------------------------------- proofs

    function test_a_message_is_proven_as_it_was_sent() public {
        Message memory sent = _message(3, BOB, 1 ether);
        sent.data = hex"01";
        Commitment memory commitment = _final(sent);
        for (uint256 field = 0; field < 6; ++field) {
            Message memory other = _message(3, BOB, 1 ether);
            other.data = hex"01";
            if (field == 0) other.nonce = 4;
            if (field == 1) other.sender = STRANGER;
            if (field == 2) other.target = STRANGER;
            if (field == 3) other.value = 2 ether;
            if (field == 4) other.gasLimit += 1;
            if (field == 5) other.data = hex"02";
            _expectNotInBatch(other, commitment, new bytes32[](0));
        }
        _relay(commitment, sent);
    }

    function test_a_wrong_proof_proves_nothing() public {
        Message[] memory messages = new Message[](5);
        for (uint64 i = 0; i < 5; ++i) {
            messages[i] = _message(i, BOB, 1 ether);
        }
        Commitment memory commitment = _finalMessages(messages);
        bytes32[] memory ids = _ids(messages);

        // None, that of another message, one sibling too few, one too many, one that is another.
        _expectNotInBatch(messages[0], commitment, new bytes32[](0));
        _expectNotInBatch(messages[0], commitment, MerkleTree.proof(ids, 1));
        _expectNotInBatch(messages[0], commitment, MerkleTree.proof(ids, 4));
        bytes32[] memory proof = MerkleTree.proof(ids, 0);
        bytes32[] memory changed = new bytes32[](2);
        (changed[0], changed[1]) = (proof[0], proof[1]);
        _expectNotInBatch(messages[0], commitment, changed);
        changed = new bytes32[](4);
        (changed[0], changed[1], changed[2], changed[3]) = (proof[0], proof[1], proof[2], 0);
        _expectNotInBatch(messages[0], commitment, changed);
        proof[2] = bytes32(uint256(proof[2]) + 1);
        _expectNotInBatch(messages[0], commitment, proof);
        vm.assertEq(BOB.balance, 0);
    }

    function test_a_batch_without_messages_proves_none() public {
        Commitment memory commitment = _commitRoot(0);
        vm.warp(commitment.finalAt);
        _expectNotInBatch(_message(0, BOB, 1 ether), commitment, new bytes32[](0));
    }

    function test_the_batch_is_that_of_the_message() public {
        Message memory first = _message(0, BOB, 1 ether);
        Message memory second = _message(1, BOB, 1 ether);
        Commitment memory one = _final(first);
        Commitment memory two = _final(second);
        _expectNotInBatch(first, two, new bytes32[](0));
        _expectNotInBatch(second, one, new bytes32[](0));
        _relay(one, first);
        _relay(two, second);
    }

    function test_the_commitment_is_one_that_stands() public {
        Message memory message = _message(0, BOB, 1 ether);
        Commitment memory commitment = _final(message);
        bytes32 stored = _commitmentHash(commitment);

        Commitment memory forged = _commitmentCopy(commitment);
        forged.messageRoot = MerkleTree.root(_ids(_list(_message(9, STRANGER, HELD))));
        vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 1, stored));
        _relay(forged, _message(9, STRANGER, HELD));

        forged = _commitmentCopy(commitment);
        forged.finalAt -= 1;
        vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 1, stored));
        _relay(forged, message);

        forged = _commitmentCopy(commitment);
        forged.number = 2;
        vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 2, bytes32(0)));
        _relay(forged, message);
        _assertStatus(message, Rollup.MessageStatus.None);
    }

    function test_a_message_waits_for_finality_to_the_second() public {
        Message memory first = _message(0, BOB, 1 ether);
        Message memory second = _message(1, BOB, 1 ether);
        Commitment memory commitment = _commitMessages(_list(first, second));
        bytes32[] memory proofOfFirst = MerkleTree.proof(_ids(_list(first, second)), 0);
        bytes32[] memory proofOfSecond = MerkleTree.proof(_ids(_list(first, second)), 1);
        bytes memory reason =
            abi.encodeWithSelector(Rollup.CommitmentNotFinal.selector, commitment.number, commitment.finalAt);
        vm.expectRevert(reason);
        rollup.relayMessage(commitment, first, proofOfFirst);
        vm.warp(START + WINDOW - 1);
        vm.expectRevert(reason);
        rollup.relayMessage(commitment, first, proofOfFirst);
        _assertStatus(first, Rollup.MessageStatus.None);

        vm.warp(START + WINDOW);
        rollup.relayMessage(commitment, first, proofOfFirst);
        vm.warp(START + WINDOW + 1);
        rollup.relayMessage(commitment, second, proofOfSecond);
        vm.assertEq(BOB.balance, 2 ether);
    }

    /// @dev There is no second in which a batch can be reverted and its messages delivered.
    function test_what_can_be_delivered_can_not_be_reverted() public {
        Message memory message = _message(0, BOB, 1 ether);
        Commitment memory commitment = _final(message);
        Commitment memory none;
        vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentIsFinal.selector, 1, commitment.finalAt));
        vm.prank(GUARDIAN);
        rollup.revertCommitments(commitment, none);
        _relay(commitment, message);
    }

    function test_a_batch_that_was_committed_again_delivers_its_messages() public {
        Message memory message = _message(0, BOB, 1 ether);
        Commitment memory wrong = _commitMessages(_list(_message(0, STRANGER, HELD)));
        Commitment memory none;
        vm.warp(wrong.finalAt - 1);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(wrong, none);
        Commitment memory right = _commitment(1, 1, 10);
        right.messageRoot = MerkleTree.root(_ids(_list(message)));
        vm.prank(COMMITTER);
        _callCommit(right);

        vm.warp(right.finalAt);
        vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentUnknown.selector, 1, _commitmentHash(right)));
        _relay(wrong, _message(0, STRANGER, HELD));
        _relay(right, message);
        vm.assertEq(BOB.balance, 1 ether);
        vm.assertEq(STRANGER.balance, 0);
    }

    // ------------------------------------------------------------------ once

    function test_a_message_is_delivered_once() public {
        Message memory message = _message(0, BOB, 1 ether);
        Commitment memory commitment = _final(message);
        _relay(commitment, message);
        _expectRelayedBefore(commitment, message, Rollup.MessageStatus.Delivered);
        _expectNotFailed(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(BOB.balance, 1 ether);
        vm.assertEq(address(rollup).balance, HELD - 1 ether);
    }

    function test_a_message_in_two_batches_is_delivered_once() public {
        Message memory message = _message(0, BOB, 1 ether);
        Commitment memory one = _final(message);
        Commitment memory two = _final(message);
        _relay(two, message);
        _expectRelayedBefore(one, message, Rollup.MessageStatus.Delivered);
        vm.assertEq(BOB.balance, 1 ether);
    }

    function test_equal_messages_are_each_delivered() public {
        Message memory first = _message(0, BOB, 1 ether);
        Message memory second = _message(1, BOB, 1 ether);
        _relay(_final(first), first);
        _relay(_final(second), second);
        vm.assertEq(BOB.balance, 2 ether);
    }

    function test_a_message_that_was_never_relayed_is_not_repeated() public {
        Message memory message = _message(0, BOB, 1 ether);
        _final(message);
        _expectNotFailed(message, Rollup.MessageStatus.None);
    }

    // -------------------------------------------------------------- failures

    function test_what_fails_stays_owed() public {
        Message memory message = _message(0, address(recorder), 1 ether);
        Commitment memory commitment = _final(message);
        recorder.refuse(true);
        vm.expectEmit(address(rollup));
        emit Rollup.MessageRelayed(_id(message), false);
        _relay(commitment, message);

        _assertStatus(message, Rollup.MessageStatus.Failed);
        vm.assertEq(address(rollup).balance, HELD);
        vm.assertEq(address(recorder).balance, 0);
        _expectRelayedBefore(commitment, message, Rollup.MessageStatus.Failed);
    }

    function test_what_failed_is_repeated_once() public {
        Message memory message = _failed(_message(0, address(recorder), 1 ether));
        recorder.refuse(false);
        vm.expectEmit(address(rollup));
        emit Rollup.MessageRelayed(_id(message), true);
        vm.prank(STRANGER);
        rollup.retryMessage(message);

        _assertStatus(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(recorder.calls(), 1);
        vm.assertEq(recorder.lastSender(), ALICE);
        vm.assertEq(address(recorder).balance, 1 ether);
        vm.assertEq(address(rollup).balance, HELD - 1 ether);
        _expectNotFailed(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(address(recorder).balance, 1 ether);
    }

    function test_what_fails_again_changes_nothing() public {
        Message memory message = _failed(_message(0, address(recorder), 1 ether));
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.MessageFailedAgain.selector, _id(message)));
            rollup.retryMessage(message);
            _assertStatus(message, Rollup.MessageStatus.Failed);
            vm.assertEq(address(rollup).balance, HELD);
        }
        recorder.refuse(false);
        rollup.retryMessage(message);
        vm.assertEq(recorder.calls(), 1);
    }

    function test_what_failed_is_repeated_as_it_was_sent() public {
        Message memory message = _failed(_message(0, address(recorder), 1 ether));
        recorder.refuse(false);
        message.value = 2 ether;
        _expectNotFailed(message, Rollup.MessageStatus.None);
        message.value = 1 ether;
        message.target = STRANGER;
        _expectNotFailed(message, Rollup.MessageStatus.None);
    }

    /// @dev The rollup's own functions would see it as their caller.
    function test_the_rollup_is_no_target() public {
        bytes[4] memory calls = [
            bytes(""),
            abi.encodeCall(Rollup.depositETH, (STRANGER)),
            abi.encodeCall(Rollup.publishGenesis, (GENESIS)),
            abi.encodeCall(Rollup.batchCount, ())
        ];
        for (uint64 i = 0; i < calls.length; ++i) {
            Message memory message = _message(i, address(rollup), i < 2 ? 1 ether : 0);
            message.data = calls[i];
            Commitment memory commitment = _final(message);
            vm.expectEmit(address(rollup));
            emit Rollup.MessageRelayed(_id(message), false);
            _relay(commitment, message);
            _assertStatus(message, Rollup.MessageStatus.Failed);
            vm.expectRevert(abi.encodeWithSelector(Rollup.MessageFailedAgain.selector, _id(message)));
            rollup.retryMessage(message);
        }
        vm.assertEq(rollup.depositCount(), 1);
        vm.assertEq(address(rollup).balance, HELD);
    }

    function test_ether_that_is_not_held_can_not_be_paid() public {
        Message memory message = _message(0, BOB, HELD + 1);
        Commitment memory commitment = _final(message);
        vm.expectRevert(abi.encodeWithSelector(Rollup.EtherNotHeld.selector, HELD + 1, HELD));
        _relay(commitment, message);
        _assertStatus(message, Rollup.MessageStatus.None);

        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(ALICE);
        _relay(commitment, message);
        _assertStatus(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(BOB.balance, HELD + 1);
        vm.assertEq(address(rollup).balance, 0);
    }

    // ------------------------------------------------------------ the sender

    function test_the_sender_is_known_during_the_call_alone() public {
        vm.expectRevert(abi.encodeWithSelector(Rollup.NoMessage.selector));
        rollup.messageSender();
        Message memory message = _message(0, address(recorder), 0);
        _relay(_final(message), message);
        vm.assertEq(recorder.lastSender(), ALICE);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NoMessage.selector));
        rollup.messageSender();

        message = _failed(_message(1, address(recorder), 0));
        vm.expectRevert(abi.encodeWithSelector(Rollup.NoMessage.selector));
        rollup.messageSender();
        recorder.refuse(false);
        rollup.retryMessage(message);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NoMessage.selector));
        rollup.messageSender();
    }

    // ---------------------------------------------------------- re-entrancy

    function test_a_target_is_not_paid_twice_by_relaying_the_same_message_again() public {
        Reentrant target = new Reentrant(rollup);
        Message memory message = _message(0, address(target), 1 ether);
        Commitment memory commitment = _final(message);
        bytes memory again = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
        target.callBack(again, 0, false);
        _relay(commitment, message);
        _assertPaidOnce(target, message);
    }

    function test_a_target_is_not_paid_twice_by_repeating_the_same_message() public {
        Reentrant target = new Reentrant(rollup);
        Message memory message = _message(0, address(target), 1 ether);
        Commitment memory commitment = _final(message);
        target.callBack(abi.encodeCall(Rollup.retryMessage, (message)), 0, true);
        _relay(commitment, message);
        _assertStatus(message, Rollup.MessageStatus.Failed);
        vm.assertEq(address(target).balance, 0);

        // It was refused because it came back; now it takes the refusal.
        target.callBack(abi.encodeCall(Rollup.retryMessage, (message)), 0, false);
        rollup.retryMessage(message);
        _assertPaidOnce(target, message);
    }

    function test_a_target_relays_no_other_message_meanwhile() public {
        Reentrant target = new Reentrant(rollup);
        Message memory message = _message(0, address(target), 1 ether);
        Message memory other = _message(1, address(target), 1 ether);
        Commitment memory commitment = _final(message);
        Commitment memory commitmentOfOther = _final(other);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitmentOfOther, other, new bytes32[](0)));
        target.callBack(call, 0, false);
        _relay(commitment, message);
        _assertPaidOnce(target, message);
        _assertStatus(other, Rollup.MessageStatus.None);

        _relay(commitmentOfOther, other);
        vm.assertEq(address(target).balance, 2 ether);
    }

    function test_a_target_repeats_no_other_message_meanwhile() public {
        Message memory other = _failed(_message(1, address(recorder), 1 ether));
        recorder.refuse(false);
        Reentrant target = new Reentrant(rollup);
        Message memory message = _message(0, address(target), 1 ether);
        Commitment memory commitment = _final(message);
        target.callBack(abi.encodeCall(Rollup.retryMessage, (other)), 0, false);
        _relay(commitment, message);
        _assertPaidOnce(target, message);
        _assertStatus(other, Rollup.MessageStatus.Failed);
        rollup.retryMessage(other);
        vm.assertEq(address(recorder).balance, 1 ether);
    }

    function test_a_target_may_deposit_what_it_is_paid() public {
        Reentrant target = new Reentrant(rollup);
        Message memory message = _message(0, address(target), 1 ether);
        Commitment memory commitment = _final(message);
        target.callBack(abi.encodeCall(Rollup.depositETH, (BOB)), 1 ether, true);
        bytes32 before = rollup.depositAccumulator(1);
        _relay(commitment, message);
        _assertStatus(message, Rollup.MessageStatus.Delivered);
        address from = address(uint160(address(target)) + uint160(0x1111000000000000000000000000000000001111));
        vm.assertEq(
            rollup.depositAccumulator(2),
            keccak256(abi.encode(before, _depositHash(1, from, BOB, 1 ether, 100_000, "")))
        );
        vm.assertEq(address(rollup).balance, HELD);
    }

    // ------------------------------------------------------------------- gas

    /// @dev Whoever relays with too little gas can not make a message fail: it is called with its gas, or not at all.
    function test_a_target_has_its_gas_or_nothing_happens() public {
        GasMeter meter = new GasMeter();
        uint64[4] memory limits = [uint64(60_000), 500_000, 5_000_000, 12_000_000];
        for (uint64 i = 0; i < limits.length; ++i) {
            Message memory message = _message(i, address(meter), 1);
            message.gasLimit = limits[i];
            Commitment memory commitment = _final(message);
            bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
            // The least gas that is enough, to the unit.
            uint256 tooLittle = limits[i];
            uint256 enough = limits[i] * 2 + 500_000;
            while (enough - tooLittle > 1) {
                uint256 gas = (enough + tooLittle) / 2;
                uint256 snapshot = vm.snapshotState();
                (bool done, bytes memory reason) = _coldCall(gas, address(meter), call);
                _assertStatus(message, done ? Rollup.MessageStatus.Delivered : Rollup.MessageStatus.None);
                if (!done) vm.assertEq(bytes4(reason), Rollup.RelayGasTooLow.selector);
                vm.revertToState(snapshot);
                if (done) enough = gas;
                else tooLittle = gas;
            }
            _coldCall(enough, address(meter), call);
            _assertStatus(message, Rollup.MessageStatus.Delivered);
            vm.assertGe(meter.gasAtEntry(), limits[i], "less than it asked for");
        }
    }

    function test_gas_that_is_too_low_is_named() public {
        Message memory message = _message(0, BOB, 1 ether);
        message.gasLimit = 1_000_000;
        Commitment memory commitment = _final(message);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
        (bool done, bytes memory reason) = address(rollup).call{gas: 1_000_000}(call);
        vm.assertFalse(done);
        vm.assertEq(bytes4(reason), Rollup.RelayGasTooLow.selector);
        (uint256 left, uint256 needed) = _twoNumbers(reason);
        vm.assertEq(needed, uint256(1_000_000) * 64 / 63 + 50_000);
        vm.assertLe(left, 1_000_000);
        vm.assertGe(left, 900_000);
        _assertStatus(message, Rollup.MessageStatus.None);
        vm.assertEq(BOB.balance, 0);
    }

    function test_a_message_that_failed_is_repeated_with_its_gas_at_least() public {
        Message memory message = _failed(_message(0, address(recorder), 1 ether));
        recorder.refuse(false);
        (bool done, bytes memory reason) =
            address(rollup).call{gas: 250_000}(abi.encodeCall(Rollup.retryMessage, (message)));
        vm.assertFalse(done);
        vm.assertEq(bytes4(reason), Rollup.RelayGasTooLow.selector);
        _assertStatus(message, Rollup.MessageStatus.Failed);
        rollup.retryMessage(message);
        vm.assertGe(recorder.gasAtEntry(), 200_000 - 1_000);
    }

    /// @dev A message that asked for too little is repeated with more: a call has all that there is.
    function test_a_message_that_asked_for_too_little_gas_is_repeated_with_more() public {
        Message memory message = _message(0, address(recorder), 1 ether);
        message.gasLimit = 1_000;
        // The recorder stores it, which takes much more.
        message.data = new bytes(1_000);
        for (uint256 i = 0; i < message.data.length; ++i) {
            message.data[i] = 0xff;
        }
        Commitment memory commitment = _final(message);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
        bool done;
        // The least that gets through fails in the target, which is what the sender asked for.
        for (uint256 gas = 60_000; !done; gas += 1_000) {
            (done,) = address(rollup).call{gas: gas}(call);
        }
        _assertStatus(message, Rollup.MessageStatus.Failed);
        rollup.retryMessage(message);
        _assertStatus(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(address(recorder).balance, 1 ether);
    }

    function test_a_target_that_burns_all_gas_fails_and_stays_owed() public {
        Message memory message = _message(0, address(new Burner()), 1 ether);
        Commitment memory commitment = _final(message);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
        (bool done,) = address(rollup).call{gas: 400_000}(call);
        vm.assertTrue(done);
        _assertStatus(message, Rollup.MessageStatus.Failed);
        vm.assertEq(address(rollup).balance, HELD);
    }

    /// @dev Copying a megabyte would cost the caller more than is left to it.
    function test_a_target_s_long_answer_costs_the_caller_nothing() public {
        Bomb bomb = new Bomb();
        for (uint64 i = 0; i < 2; ++i) {
            Message memory message = _message(i, address(bomb), 1);
            message.data = abi.encode(1_000_000, i == 1);
            message.gasLimit = 2_500_000;
            Commitment memory commitment = _final(message);
            bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
            (bool done,) = address(rollup).call{gas: 2_700_000}(call);
            vm.assertTrue(done);
            _assertStatus(message, i == 0 ? Rollup.MessageStatus.Delivered : Rollup.MessageStatus.Failed);
        }
        vm.assertEq(address(bomb).balance, 1);
    }

    function test_the_largest_message_fits_a_transaction() public {
        MessagePasser passer = new MessagePasser();
        GasMeter meter = new GasMeter();
        Message memory message = _message(0, address(meter), 1 ether);
        message.gasLimit = passer.MAX_MESSAGE_GAS();
        message.data = new bytes(passer.MAX_MESSAGE_DATA());
        for (uint256 i = 0; i < message.data.length; ++i) {
            message.data[i] = 0xff;
        }
        Commitment memory commitment = _final(message);
        // A proof of a million messages.
        bytes32[] memory proof = new bytes32[](20);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, message, proof));
        uint256 intrinsic = 21_000 + 16 * call.length;
        // EIP-7825: 2^24 gas.
        (bool done,) = address(rollup).call{gas: (1 << 24) - intrinsic}(
            abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)))
        );
        vm.assertTrue(done);
        vm.assertGe(meter.gasAtEntry(), message.gasLimit);
    }

    // ------------------------------------------------------------------ fuzz

    function testFuzz_every_leaf_of_any_tree_proves(uint256 seed, uint8 countSeed, uint8 indexSeed) public {
        uint256 count = 1 + countSeed % 40;
        uint256 index = indexSeed % count;
        Message memory message = _message(uint64(index), address(uint160(0xD000) + uint160(seed % 1000)), seed % HELD);
        bytes32[] memory ids = _randomIds(seed, count);
        ids[index] = _id(message);
        Commitment memory commitment = _commitRoot(MerkleTree.root(ids));
        vm.warp(commitment.finalAt);
        rollup.relayMessage(commitment, message, MerkleTree.proof(ids, index));
        vm.assertEq(message.target.balance, message.value);
        _assertStatus(message, Rollup.MessageStatus.Delivered);
    }

    /// @dev A message that is not among the leaves has no proof: not another's, not any part of the tree, not any bytes.
    function testFuzz_nothing_else_proves(uint256 seed, uint8 countSeed, uint8 indexSeed, bytes32[] memory proof)
        public
    {
        uint256 count = 1 + countSeed % 40;
        bytes32[] memory ids = _randomIds(seed, count);
        Commitment memory commitment = _commitRoot(MerkleTree.root(ids));
        vm.warp(commitment.finalAt);
        Message memory message = _message(uint64(seed), BOB, 1 ether);
        _expectNotInBatch(message, commitment, proof);
        _expectNotInBatch(message, commitment, MerkleTree.proof(ids, indexSeed % count));
        // The root's two children, or the leaf itself: what would prove a node that poses as a leaf.
        _expectNotInBatch(message, commitment, MerkleTree.leaves(ids));
    }

    function testFuzz_each_leaf_has_its_own_proof(uint256 seed, uint8 countSeed, uint8 oneSeed, uint8 otherSeed)
        public
    {
        uint256 count = 2 + countSeed % 40;
        uint256 one = oneSeed % count;
        uint256 other = otherSeed % count;
        vm.assume(one != other);
        Message memory message = _message(uint64(seed), BOB, 1 ether);
        bytes32[] memory ids = _randomIds(seed, count);
        ids[one] = _id(message);
        Commitment memory commitment = _commitRoot(MerkleTree.root(ids));
        vm.warp(commitment.finalAt);
        _expectNotInBatch(message, commitment, MerkleTree.proof(ids, other));
    }

    function testFuzz_any_message_is_called_as_it_was_sent(
        uint64 nonce,
        address sender,
        uint256 value,
        uint24 gasLimit,
        bytes calldata data
    ) public {
        vm.assume(sender != address(0));
        Message memory message = Message({
            nonce: nonce,
            sender: sender,
            target: address(recorder),
            value: value % (HELD + 1),
            gasLimit: gasLimit,
            // So that it is no call of one of the recorder's own functions.
            data: bytes.concat(hex"ffffffff", data)
        });
        _relay(_final(message), message);
        // The limit is the least that a call has, and here is much more.
        _assertStatus(message, Rollup.MessageStatus.Delivered);
        vm.assertEq(recorder.lastSender(), sender);
        vm.assertEq(recorder.lastValue(), message.value);
        vm.assertEq(recorder.lastData(), message.data);
        vm.assertEq(address(rollup).balance, HELD - message.value);
    }

    function testFuzz_whatever_the_gas_a_message_is_called_with_its_own_or_not_at_all(uint256 seed, uint24 limit)
        public
    {
        GasMeter meter = new GasMeter();
        Message memory message = _message(0, address(meter), 1);
        message.gasLimit = 30_000 + uint64(limit);
        // From the limit itself to somewhat more than is needed.
        uint256 gas = message.gasLimit + seed % (uint256(message.gasLimit) / 32 + 200_000);
        Commitment memory commitment = _final(message);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, message, new bytes32[](0)));
        (bool done,) = _coldCall(gas, address(meter), call);
        _assertStatus(message, done ? Rollup.MessageStatus.Delivered : Rollup.MessageStatus.None);
        if (done) vm.assertGe(meter.gasAtEntry(), message.gasLimit);
    }

    // --------------------------------------------------------------- helpers

    /// @dev A message to the recorder that was relayed in vain; it still refuses.
    function _failed(Message memory message) private returns (Message memory) {
        Commitment memory commitment = _final(message);
        recorder.refuse(true);
        _relay(commitment, message);
        _assertStatus(message, Rollup.MessageStatus.Failed);
        return message;
    }

    /// @dev Calls the rollup as a transaction would, with nothing of it or of the target warm.
    function _coldCall(uint256 gas, address target, bytes memory call)
        private
        returns (bool done, bytes memory reason)
    {
        vm.cool(address(rollup));
        vm.cool(_implementation(address(rollup)));
        vm.cool(target);
        (done, reason) = address(rollup).call{gas: gas}(call);
    }

    function _assertPaidOnce(Reentrant target, Message memory message) private view {
        vm.assertEq(target.calls(), 1);
        vm.assertFalse(target.succeeded());
        vm.assertEq(
            target.answer(), abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector)
        );
        vm.assertEq(address(target).balance, message.value);
        vm.assertEq(address(rollup).balance, HELD - message.value);
        _assertStatus(message, Rollup.MessageStatus.Delivered);
    }

    function _expectNotInBatch(Message memory message, Commitment memory commitment, bytes32[] memory proof) private {
        vm.expectRevert(abi.encodeWithSelector(Rollup.MessageNotInBatch.selector, _id(message), commitment.number));
        rollup.relayMessage(commitment, message, proof);
    }

    function _expectRelayedBefore(Commitment memory commitment, Message memory message, Rollup.MessageStatus status)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(Rollup.MessageRelayedBefore.selector, _id(message), status));
        _relay(commitment, message);
    }

    function _expectNotFailed(Message memory message, Rollup.MessageStatus status) private {
        vm.expectRevert(abi.encodeWithSelector(Rollup.MessageNotFailed.selector, _id(message), status));
        rollup.retryMessage(message);
    }

    function _commitmentCopy(Commitment memory commitment) private pure returns (Commitment memory) {
        return abi.decode(abi.encode(commitment), (Commitment));
    }

    function _randomIds(uint256 seed, uint256 count) private pure returns (bytes32[] memory ids) {
        ids = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            ids[i] = keccak256(abi.encode(seed, i));
        }
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    /// @dev The arguments of an error with two numbers.
    function _twoNumbers(bytes memory reason) private pure returns (uint256 first, uint256 second) {
        assembly ("memory-safe") {
            first := mload(add(reason, 0x24))
            second := mload(add(reason, 0x44))
        }
    }
}
