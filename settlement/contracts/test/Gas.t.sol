// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Attestation} from "../src/Attestation.sol";
import {ChallengeWindow} from "../src/ChallengeWindow.sol";
import {L2TokenBridge} from "../src/L2TokenBridge.sol";
import {MessagePasser} from "../src/MessagePasser.sol";
import {Rollup} from "../src/Rollup.sol";
import {TokenBridge} from "../src/TokenBridge.sol";
import {BatchHeader, Commitment, Message} from "../src/Types.sol";
import {BridgeTest} from "./support/BridgeTest.sol";
import {MerkleTree} from "./support/MerkleTree.sol";
import {Recorder} from "./support/Targets.sol";
import {PlainToken} from "./support/Tokens.sol";

/// @dev Gas of whole transactions, base cost, calldata and the proxy included, in the steady state in which every counter
/// is nonzero already. The figures are kept in snapshots/gas.json, and check.sh fails when they change. Refunds are not
/// taken off.
contract GasTest is BridgeTest {
    uint256 private constant POST_BUDGET = 90_000;
    uint256 private constant COMMIT_BUDGET = 80_000;

    PlainToken private token;
    Commitment private last;
    /// @dev A chain whose next entry is the first of six. (What a test calls before it measures is no longer cold.)
    Rollup private six;

    function setUp() public override {
        super.setUp();
        six = _deploy(_config());
        for (uint256 i = 0; i < 6; ++i) {
            six.forceTransaction(hex"02");
        }
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        _post(1, 10);
        last = _commit(1, 1, 10);
        _post(11, 20);
        vm.warp(START + 60);
        token = new PlainToken("Token", "TOK", 18);
        token.mint(ALICE, 1_000_000);
    }

    // ------------------------------------------------------------------ posts

    function test_gas_of_a_post_with_one_blob() public {
        vm.assertLe(_measurePost("post, 1 blob", _header(21, 30), 1, ""), POST_BUDGET, "post, 1 blob");
    }

    function test_gas_of_a_post_with_six_blobs() public {
        vm.assertLe(_measurePost("post, 6 blobs", _header(21, 30), 6, ""), POST_BUDGET, "post, 6 blobs");
    }

    function test_gas_of_a_post_with_a_pointer() public {
        BatchHeader memory header = _header(21, 30);
        header.daKind = 5;
        bytes memory pointer = abi.encode(keccak256("key"));
        vm.assertLe(_measurePost("post, 32-byte pointer", header, 0, pointer), POST_BUDGET, "post, pointer");
    }

    function test_gas_of_a_post_that_leaves_entries_out() public {
        BatchHeader memory header = _header(21, 30);
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        rollup.forceTransaction(hex"02");
        vm.assertLe(_measurePost("post, 1 blob, leaves entries out", header, 1, ""), POST_BUDGET, "post, not all");
    }

    function test_gas_of_a_post_by_a_stranger() public {
        vm.warp(START + 60 + TIMEOUT);
        bytes memory input = abi.encodeCall(Rollup.postBatch, (0, _header(21, 30), ""));
        vm.blobhashes(_blobs(1));
        _measure("post, 1 blob, anyone", STRANGER, address(rollup), 0, input);
    }

    function test_gas_of_an_epoch() public {
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        _measure("beginEpoch", BATCHER, address(rollup), 0, abi.encodeCall(Rollup.beginEpoch, (2)));
    }

    // ---------------------------------------------------------------- commits

    function test_gas_of_a_commit() public {
        bytes memory input = _commitInput(_commitment(2, 11, 20), "");
        vm.assertLe(_measure("commit", COMMITTER, address(rollup), 0, input), COMMIT_BUDGET, "commit");
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
        _measure("commit, 2 of 3 sign", STRANGER, address(rollup), 0, _commitInput(commitment, proof));
    }

    function test_gas_of_a_revert() public {
        Commitment memory second = _commit(2, 11, 20);
        bytes memory input = abi.encodeCall(Rollup.revertCommitments, (second, last));
        _measure("revert, 1 commitment", GUARDIAN, address(rollup), 0, input);
    }

    // --------------------------------------------------------------- deposits

    function test_gas_of_a_deposit() public {
        _measure("depositETH", ALICE, address(rollup), 1, abi.encodeCall(Rollup.depositETH, (BOB)));
    }

    /// @dev It pays for the slot in which the blocks of the next five are kept, too.
    function test_gas_of_a_deposit_that_is_the_first_of_six() public {
        _measure("depositETH, first of six", ALICE, address(six), 1, abi.encodeCall(Rollup.depositETH, (BOB)));
    }

    function test_gas_of_a_plain_transfer() public {
        _measure("deposit, plain transfer", ALICE, address(rollup), 1, "");
    }

    function test_gas_of_a_transaction() public {
        bytes memory input = abi.encodeCall(Rollup.depositTransaction, (BOB, 100_000, _ones(100)));
        _measure("depositTransaction, 100 bytes", ALICE, address(rollup), 1, input);
    }

    function test_gas_of_a_forced_transaction() public {
        bytes memory input = abi.encodeCall(Rollup.forceTransaction, (_ones(120)));
        _measure("forceTransaction, 120 bytes", ALICE, address(rollup), 0, input);
    }

    function test_gas_of_a_forced_transaction_that_is_the_first_of_six() public {
        bytes memory input = abi.encodeCall(Rollup.forceTransaction, (_ones(120)));
        _measure("forceTransaction, 120 bytes, first of six", ALICE, address(six), 0, input);
    }

    // --------------------------------------------------------------- messages

    function test_gas_of_a_relay() public {
        vm.deal(BOB, 1);
        Message memory message = _message(0, BOB, 1 ether);
        bytes memory input = abi.encodeCall(Rollup.relayMessage, (_finalTwo(message), message, new bytes32[](0)));
        _measure("relay, ether", STRANGER, address(rollup), 0, input);
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
        _measure("relay, ether, 1 of 1,024", STRANGER, address(rollup), 0, input);
    }

    function test_gas_of_a_relay_to_a_new_account() public {
        Message memory message = _message(0, address(0xD1), 1 ether);
        bytes memory input = abi.encodeCall(Rollup.relayMessage, (_finalTwo(message), message, new bytes32[](0)));
        _measure("relay, ether to a new account", STRANGER, address(rollup), 0, input);
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
        _measure("retry, recorded by its target", STRANGER, address(rollup), 0, input);
    }

    // ------------------------------------------------------------ the others

    function test_gas_of_a_pause() public {
        _measure("pause", GUARDIAN, address(rollup), 0, abi.encodeCall(Rollup.pause, ()));
    }

    function test_gas_of_the_end_of_a_pause() public {
        vm.prank(GUARDIAN);
        rollup.pause();
        _measure("unpause", OWNER, address(rollup), 0, abi.encodeCall(Rollup.unpause, ()));
    }

    function test_gas_of_another_verifier() public {
        bytes memory input = abi.encodeCall(Rollup.chooseVerifier, (new ChallengeWindow(2 hours)));
        _measure("chooseVerifier, by the timelock's call", address(timelock), address(rollup), 0, input);
    }

    function test_gas_of_a_genesis() public {
        bytes memory input = abi.encodeCall(Rollup.publishGenesis, (GENESIS));
        _measure("publishGenesis, 5 bytes", OWNER, address(rollup), 0, input);
    }

    // ----------------------------------------------------------------- tokens

    function test_gas_of_a_token_deposit() public {
        _deposit(address(token), ALICE, BOB, 1_000);
        vm.prank(ALICE);
        token.approve(address(bridge), 10_000);
        bytes memory input = abi.encodeCall(TokenBridge.deposit, (token, BOB, 1_000));
        _measure("token deposit", ALICE, address(bridge), 0, input);
    }

    function test_gas_of_a_token_s_return() public {
        _bridgeOver(address(token), ALICE, BOB, 1_000);
        Message memory message = _withdraw(address(token), BOB, BOB, 400);
        bytes memory input = abi.encodeCall(Rollup.relayMessage, (_finalTwo(message), message, new bytes32[](0)));
        uint256 gas = _measure("relay, tokens", STRANGER, address(rollup), 0, input);
        vm.assertEq(token.balanceOf(BOB), 400);
        vm.assertLe(gas, l2Bridge.WITHDRAWAL_GAS(), "of which the call is only a part");
    }

    function test_gas_of_a_token_s_first_deposit_on_L2() public {
        Deposit memory deposit = _deposit(address(token), ALICE, BOB, 1_000);
        _measure("L2, first deposit of a token", deposit.from, deposit.to, 0, deposit.data);
    }

    function test_gas_of_a_token_s_next_deposit_on_L2() public {
        _bridgeOver(address(token), ALICE, STRANGER, 1_000);
        Deposit memory deposit = _deposit(address(token), ALICE, BOB, 1_000);
        _measure("L2, next deposit of a token", deposit.from, deposit.to, 0, deposit.data);
    }

    function test_gas_of_a_token_withdrawal_on_L2() public {
        _bridgeOver(address(token), ALICE, BOB, 1_000);
        _withdraw(address(token), BOB, BOB, 1);
        bytes memory input = abi.encodeCall(L2TokenBridge.withdraw, (address(token), BOB, 500));
        _measure("L2, withdrawal of tokens", BOB, L2_BRIDGE, 0, input);
    }

    function test_gas_of_a_message_on_L2() public {
        MessagePasser(payable(L2_PASSER)).sendMessage(BOB, 0, "");
        bytes memory input = abi.encodeCall(MessagePasser.sendMessage, (BOB, 100_000, ""));
        _measure("L2, sendMessage", ALICE, L2_PASSER, 1, input);
        _measure("L2, plain transfer to withdraw", ALICE, L2_PASSER, 1, "");
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

    /// @dev The gas of a transaction from `sender` with this value and input.
    function _measure(string memory name, address sender, address target, uint256 value, bytes memory input)
        private
        returns (uint256 gas)
    {
        address[11] memory everything = [
            address(rollup),
            _implementation(address(rollup)),
            address(challengeWindow),
            address(bridge),
            _implementation(address(bridge)),
            address(token),
            BOB,
            L2_BRIDGE,
            L2_TOKEN_CODE,
            L2_PASSER,
            address(l2Bridge.tokenOf(address(token)))
        ];
        for (uint256 i = 0; i < everything.length; ++i) {
            vm.cool(everything[i]);
        }
        vm.prank(sender, sender);
        (bool done,) = target.call{value: value}(input);
        gas = vm.lastCallGas().gasTotalUsed + 21_000;
        vm.assertTrue(done);
        for (uint256 i = 0; i < input.length; ++i) {
            gas += input[i] == 0 ? 4 : 16;
        }
        vm.snapshotValue("gas", name, gas);
    }
}
