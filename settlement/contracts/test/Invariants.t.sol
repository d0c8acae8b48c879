// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";

import {ChallengeWindow} from "../src/ChallengeWindow.sol";
import {Rollup} from "../src/Rollup.sol";
import {BatchHeader, Commitment, Message} from "../src/Types.sol";
import {MerkleTree} from "./support/MerkleTree.sol";
import {RollupTest} from "./support/RollupTest.sol";
import {Vm} from "./support/Vm.sol";

/// @dev Is paid by messages that carry their own numbers; refuses at times, and comes back in the middle at times.
contract Payee {
    error Refused();

    Rollup private immutable ROLLUP;

    bool private _refuses;
    bytes private _callBack;

    mapping(uint64 nonce => uint256 times) public paid;
    bool public cameBack;

    constructor(Rollup rollup) {
        ROLLUP = rollup;
    }

    function behave(bool refuses, bytes calldata callBack) external {
        _refuses = refuses;
        _callBack = callBack;
    }

    fallback() external payable {
        _take();
    }

    receive() external payable {
        _take();
    }

    function _take() private {
        if (_refuses) revert Refused();
        paid[abi.decode(msg.data, (uint64))] += 1;
        if (_callBack.length == 0) return;
        (bool done,) = address(ROLLUP).call(_callBack);
        cameBack = cameBack || done;
    }
}

/// @dev What the people of a chain do, in any order; keeps its own account of it. L2 is its ether and its messages: only
/// what was deposited can be sent back.
contract Actor {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address private constant OWNER = address(0xA1);
    address private constant BATCHER = address(0xA2);
    address private constant COMMITTER = address(0xA3);
    address private constant GUARDIAN = address(0xA4);
    address private constant STRANGER = address(0xC1);

    Rollup private immutable rollup;
    uint64 private immutable timeout;
    uint64 private immutable inclusion;
    address private immutable timelock;
    Payee public immutable payee;

    // What was deposited, and has become of it.
    uint256 public deposited;
    uint256 public sentBack;
    uint256 public delivered;
    bytes32 public accumulator;

    // What was queued, deposits and forced transactions, and when.
    uint64 public queued;
    uint256[] private _queuedAt;

    struct Post {
        uint256 height;
        uint64 end;
        uint64 queued;
    }

    // What was posted.
    uint64 public posted;
    uint32 public epoch;
    uint256 public lastPostedAt;
    bytes32[] private _batchHashes;
    Post[] private _posts;

    // What was committed. Messages belong to commitments in their order: each has those before its end.
    Commitment[] private _commitments;
    uint256[] private _messagesEnds;
    uint32 public reverts;
    bool public paused;

    // What L2 sent, by nonce, and what became of it.
    Message[] private _messages;
    Rollup.MessageStatus[] private _status;

    ChallengeWindow[3] private _verifiers;
    uint64 private _window;

    constructor(Rollup rollup_, address timelock_, uint64 window, uint64 timeout_, uint64 inclusion_) {
        rollup = rollup_;
        timelock = timelock_;
        timeout = timeout_;
        inclusion = inclusion_;
        _verifiers = [new ChallengeWindow(0), new ChallengeWindow(window), new ChallengeWindow(3 * window)];
        _window = window;
        payee = new Payee(rollup_);
        lastPostedAt = vm.getBlockTimestamp();
        _batchHashes.push(0);
    }

    // -------------------------------------------------------------- the queue

    function deposit(uint96 value, uint64 gasSeed, bytes calldata data) external {
        address from = address(0xB1);
        uint256 length = data.length < 24_000 ? data.length : 24_000;
        uint64 minimum = uint64(21_000 + 40 * length);
        uint64 gasLimit = minimum + gasSeed % (1_000_001 - minimum);
        vm.deal(from, value);
        if (paused) vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.prank(from, from);
        rollup.depositTransaction{value: value}(address(0xB2), gasLimit, data[:length]);
        if (paused) return;

        bytes32 depositHash =
            keccak256(abi.encode(queued, from, address(0xB2), uint256(value), gasLimit, keccak256(data[:length])));
        _queued(depositHash);
        deposited += value;
    }

    /// @dev Also while paused.
    function forceTransaction(address by, bytes calldata transaction) external {
        uint256 length = transaction.length < 40_000 ? transaction.length : 40_000;
        bool refused = length == 0 || length > 32_768;
        if (refused) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.ForcedBytesOutOfRange.selector, length, 32_768));
        }
        // The proxy's admin can upgrade, and nothing else.
        address admin = address(uint160(uint256(vm.load(address(rollup), ERC1967Utils.ADMIN_SLOT))));
        vm.prank(by == admin ? address(0xB1) : by);
        rollup.forceTransaction(transaction[:length]);
        if (!refused) _queued(keccak256(abi.encode(queued, keccak256(transaction[:length]))));
    }

    // ------------------------------------------------------------------ posts

    function post(uint64 depositsSeed, uint16 blocks, bytes32 digest, bool late) external {
        BatchHeader memory header = _header(depositsSeed, blocks, digest);
        if (late && epoch > 0) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.EpochOver.selector, epoch - 1, epoch));
            vm.prank(BATCHER);
            rollup.postBatch(epoch - 1, header, hex"01");
            return;
        }
        bool overdue = _expectOverdue(header.depositsEnd);
        vm.prank(BATCHER);
        rollup.postBatch(epoch, header, hex"01");
        if (overdue) return;
        lastPostedAt = vm.getBlockTimestamp();
        _posted(header);
    }

    function postAsStranger(uint64 depositsSeed, uint16 blocks, bytes32 digest, uint32 anyEpoch) external {
        BatchHeader memory header = _header(depositsSeed, blocks, digest);
        bool open = vm.getBlockTimestamp() >= lastPostedAt + timeout;
        if (!open) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.SequencerIsAlive.selector, STRANGER, lastPostedAt + timeout));
        } else if (anyEpoch % 8 == 3) {
            open = false;
            header.daKind = 5;
            vm.expectRevert(abi.encodeWithSelector(Rollup.DaKindNotOnL1.selector, 5));
        } else if (_expectOverdue(header.depositsEnd)) {
            open = false;
        }
        vm.prank(STRANGER);
        rollup.postBatch(anyEpoch, header, hex"01");
        if (open) _posted(header);
    }

    /// @dev Neither a number that was posted, nor one that is not next.
    function postOutOfOrder(uint64 number) external {
        if (number == posted + 1) return;
        BatchHeader memory header = _header(0, 0, 0);
        header.number = number;
        vm.expectRevert(abi.encodeWithSelector(Rollup.UnexpectedBatchNumber.selector, number, posted + 1));
        vm.prank(BATCHER);
        rollup.postBatch(epoch, header, hex"01");
    }

    function takeOver() external {
        vm.prank(BATCHER);
        rollup.beginEpoch(epoch + 1);
        epoch += 1;
        lastPostedAt = vm.getBlockTimestamp();
    }

    // ---------------------------------------------------------------- commits

    function commit(uint64 skip, uint16 blocks, bytes32 root, uint8 messagesSeed) external {
        Commitment memory last = _last();
        uint64 uncommitted = posted - last.number;
        if (uncommitted == 0) return;
        uint64 number = last.number + 1 + skip % uncommitted;
        uint256 begin = _messagesEnd();
        uint256 end = begin + messagesSeed % 6;
        if (end > _messages.length) end = _messages.length;
        Commitment memory next = Commitment({
            number: number,
            previous: last.number,
            batchHash: _batchHashes[number],
            firstBlock: last.lastBlock + 1,
            lastBlock: last.lastBlock + 1 + blocks,
            lastBlockHash: root,
            stateRoot: root,
            messageRoot: MerkleTree.root(_ids(begin, end)),
            committedAt: uint64(vm.getBlockTimestamp()),
            finalAt: uint64(vm.getBlockTimestamp()) + _window
        });
        if (next.finalAt < last.finalAt) next.finalAt = last.finalAt;
        if (paused) vm.expectRevert(abi.encodeWithSelector(Rollup.IsPaused.selector));
        vm.prank(COMMITTER);
        rollup.commitBatch(
            number,
            next.batchHash,
            next.firstBlock,
            next.lastBlock,
            next.lastBlockHash,
            next.stateRoot,
            next.messageRoot,
            ""
        );
        if (paused) return;
        _commitments.push(next);
        _messagesEnds.push(end);
    }

    function revertCommitments(uint256 keepSeed) external {
        if (_commitments.length == 0) return;
        uint256 keep = keepSeed % _commitments.length;
        Commitment memory first = _commitments[keep];
        Commitment memory newLast;
        if (keep > 0) newLast = _commitments[keep - 1];
        bool isFinal = vm.getBlockTimestamp() >= first.finalAt;
        if (isFinal) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentIsFinal.selector, first.number, first.finalAt));
        }
        vm.prank(GUARDIAN);
        rollup.revertCommitments(first, newLast);
        if (!isFinal) reverts += 1;
        while (!isFinal && _commitments.length > keep) {
            _commitments.pop();
            _messagesEnds.pop();
        }
    }

    /// @dev Slower or faster than what made the commitments that stand.
    function choose(uint8 seed) external {
        ChallengeWindow chosen = _verifiers[seed % 3];
        vm.prank(timelock);
        rollup.chooseVerifier(chosen);
        _window = chosen.challengeWindow();
    }

    /// @dev Seldom, since little happens meanwhile.
    function pause(uint8 seed) external {
        if (seed % 4 != 0) return;
        vm.prank(GUARDIAN);
        rollup.pause();
        paused = true;
    }

    function unpause() external {
        vm.prank(OWNER);
        rollup.unpause();
        paused = false;
    }

    function wait_(uint16 time) external {
        vm.warp(vm.getBlockTimestamp() + time / 8);
        vm.roll(vm.getBlockNumber() + time % 128);
    }

    // --------------------------------------------------------------- messages

    /// @dev L2 sends back a part of the ether that it has.
    function send(uint256 valueSeed, uint8 kind) external {
        uint64 nonce = uint64(_messages.length);
        uint256 there = deposited - sentBack;
        uint256 value = kind % 4 == 0 ? there : valueSeed % (there + 1);
        address target = address(payee);
        // Some can never be delivered.
        if (kind % 16 == 15) target = address(rollup);
        _messages.push(
            Message({
                nonce: nonce,
                sender: address(0xB1),
                target: target,
                value: value,
                gasLimit: 500_000,
                data: abi.encode(nonce)
            })
        );
        _status.push(Rollup.MessageStatus.None);
        sentBack += value;
    }

    /// @dev Any message with the proof of its batch, whether or not that is final, and whether or not it was relayed.
    function relay(uint256 commitmentSeed, uint256 messageSeed, bool refuses, bool comesBack) external {
        if (_commitments.length == 0) return;
        uint256 place = commitmentSeed % _commitments.length;
        uint256 begin = place == 0 ? 0 : _messagesEnds[place - 1];
        uint256 count = _messagesEnds[place] - begin;
        if (count == 0) return;
        uint256 index = begin + messageSeed % count;
        Commitment memory commitment = _commitments[place];
        bytes32[] memory proof = MerkleTree.proof(_ids(begin, begin + count), index - begin);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (commitment, _messages[index], proof));
        _behave(index, refuses, comesBack ? call : bytes(""));
        bool open = _status[index] == Rollup.MessageStatus.None && vm.getBlockTimestamp() >= commitment.finalAt;
        vm.prank(STRANGER);
        (bool done,) = address(rollup).call(call);
        vm.assertTrue(done == open);
        if (open) _relayed(index, refuses);
    }

    function retry(uint256 messageSeed, bool refuses, bool comesBack) external {
        if (_messages.length == 0) return;
        uint256 index = messageSeed % _messages.length;
        bytes memory call = abi.encodeCall(Rollup.retryMessage, (_messages[index]));
        _behave(index, refuses, comesBack ? call : bytes(""));
        bool fails = refuses || _messages[index].target == address(rollup);
        bool open = _status[index] == Rollup.MessageStatus.Failed && !fails;
        vm.prank(STRANGER);
        (bool done,) = address(rollup).call(call);
        vm.assertTrue(done == open);
        if (open) _relayed(index, refuses);
    }

    /// @dev A message that L2 did not send, with the proof of one that it did.
    function forge_(uint256 commitmentSeed, uint256 value) external {
        if (_commitments.length == 0) return;
        uint256 place = commitmentSeed % _commitments.length;
        uint256 begin = place == 0 ? 0 : _messagesEnds[place - 1];
        if (_messagesEnds[place] == begin) return;
        Message memory message = _messages[begin];
        message.value = value % (address(rollup).balance + 1);
        if (message.value == _messages[begin].value) return;
        bytes32[] memory proof = MerkleTree.proof(_ids(begin, _messagesEnds[place]), 0);
        bytes memory call = abi.encodeCall(Rollup.relayMessage, (_commitments[place], message, proof));
        (bool done,) = address(rollup).call(call);
        vm.assertFalse(done);
    }

    // ------------------------------------------------------------------ views

    /// @dev The commitments that stand, oldest first.
    function standing() external view returns (Commitment[] memory) {
        return _commitments;
    }

    function posts() external view returns (Post[] memory) {
        return _posts;
    }

    function queuedAt() external view returns (uint256[] memory) {
        return _queuedAt;
    }

    function batchHash(uint256 number) external view returns (bytes32) {
        return _batchHashes[number];
    }

    function messages() external view returns (Message[] memory) {
        return _messages;
    }

    function status(uint256 index) external view returns (Rollup.MessageStatus) {
        return _status[index];
    }

    // ---------------------------------------------------------------- helpers

    function _header(uint64 depositsSeed, uint16 blocks, bytes32 digest) private view returns (BatchHeader memory) {
        // A sequencer that takes all it can, or one that leaves out what it likes.
        uint64 depositsEnd = depositsSeed % 4 == 0 ? queued : depositsSeed % (queued + 1);
        return BatchHeader({
            number: posted + 1,
            firstBlock: 1,
            lastBlock: uint64(1) + blocks,
            depositsEnd: depositsEnd,
            depositsHash: rollup.depositAccumulator(depositsEnd),
            digest: digest,
            daKind: 2
        });
    }

    function _queued(bytes32 entry) private {
        accumulator = keccak256(abi.encode(accumulator, entry));
        _queuedAt.push(vm.getBlockNumber());
        queued += 1;
    }

    /// @dev Of all that is left out, and not only of the first.
    function _expectOverdue(uint64 end) private returns (bool overdue) {
        for (uint256 i = end; i < queued; ++i) {
            overdue = overdue || vm.getBlockNumber() > _queuedAt[i] + inclusion;
        }
        if (overdue) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.EntryOverdue.selector, end, _queuedAt[end] + inclusion));
        }
    }

    function _posted(BatchHeader memory header) private {
        _posts.push(Post({height: vm.getBlockNumber(), end: header.depositsEnd, queued: queued}));
        bytes32 none = keccak256(abi.encode(new bytes32[](0)));
        _batchHashes.push(keccak256(abi.encode(_batchHashes[posted], header, none, keccak256(hex"01"))));
        posted += 1;
    }

    function _behave(uint256 index, bool refuses, bytes memory callBack) private {
        payee.behave(refuses, callBack.length > 0 && index > 0 ? callBack : bytes(""));
    }

    function _relayed(uint256 index, bool refuses) private {
        if (refuses || _messages[index].target == address(rollup)) {
            _status[index] = Rollup.MessageStatus.Failed;
        } else {
            _status[index] = Rollup.MessageStatus.Delivered;
            delivered += _messages[index].value;
        }
    }

    function _ids(uint256 begin, uint256 end) private view returns (bytes32[] memory ids) {
        ids = new bytes32[](end - begin);
        for (uint256 i = 0; i < ids.length; ++i) {
            ids[i] = rollup.messageId(_messages[begin + i]);
        }
    }

    function _last() private view returns (Commitment memory last) {
        if (_commitments.length > 0) last = _commitments[_commitments.length - 1];
    }

    function _messagesEnd() private view returns (uint256) {
        return _messagesEnds.length == 0 ? 0 : _messagesEnds[_messagesEnds.length - 1];
    }
}

contract InvariantsTest is RollupTest {
    Actor private actor;

    function setUp() public override {
        super.setUp();
        actor = new Actor(rollup, address(timelock), WINDOW, TIMEOUT, INCLUSION);
    }

    /// @dev Read by forge: what it calls at random.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function invariant_the_ether_is_what_was_deposited_and_not_delivered() public view {
        vm.assertEq(address(rollup).balance, actor.deposited() - actor.delivered());
        vm.assertEq(address(actor.payee()).balance, actor.delivered());
    }

    function invariant_whatever_is_owed_is_there() public view {
        Message[] memory messages = actor.messages();
        uint256 owed = 0;
        for (uint256 i = 0; i < messages.length; ++i) {
            if (rollup.messageStatus(rollup.messageId(messages[i])) != Rollup.MessageStatus.Delivered) {
                owed += messages[i].value;
            }
        }
        vm.assertGe(address(rollup).balance, owed);
        vm.assertEq(owed, actor.sentBack() - actor.delivered());
    }

    function invariant_no_message_is_delivered_twice() public view {
        Message[] memory messages = actor.messages();
        for (uint64 i = 0; i < messages.length; ++i) {
            Rollup.MessageStatus status = rollup.messageStatus(rollup.messageId(messages[i]));
            vm.assertTrue(status == actor.status(i));
            vm.assertEq(actor.payee().paid(i), status == Rollup.MessageStatus.Delivered ? 1 : 0);
        }
        vm.assertFalse(actor.payee().cameBack());
    }

    function invariant_the_queue_is_what_was_deposited_and_forced() public view {
        uint64 queued = actor.queued();
        vm.assertEq(rollup.depositCount(), queued);
        vm.assertEq(rollup.depositAccumulator(queued), actor.accumulator());
        vm.assertEq(rollup.depositAccumulator(queued + 1), 0);
        uint256[] memory queuedAt = actor.queuedAt();
        for (uint64 i = 0; i < queued; ++i) {
            vm.assertEq(rollup.queuedAt(i), queuedAt[i]);
        }
        vm.assertEq(rollup.queuedAt(queued), 0);
    }

    /// @dev Of the posts that were taken, by whomever, and the entries that were in the queue then.
    function invariant_no_post_has_left_out_what_was_overdue() public view {
        Actor.Post[] memory posts = actor.posts();
        uint256[] memory queuedAt = actor.queuedAt();
        vm.assertEq(posts.length, rollup.batchCount());
        for (uint256 i = 0; i < posts.length; ++i) {
            for (uint256 j = posts[i].end; j < posts[i].queued; ++j) {
                vm.assertLe(posts[i].height, queuedAt[j] + INCLUSION);
            }
        }
    }

    function invariant_no_number_is_skipped_or_taken_twice() public view {
        uint64 posted = actor.posted();
        vm.assertEq(rollup.batchCount(), posted);
        for (uint64 number = 0; number <= posted; ++number) {
            vm.assertEq(rollup.batchHashes(number), actor.batchHash(number));
        }
        vm.assertEq(rollup.batchHashes(posted + 1), 0);
        vm.assertEq(rollup.currentEpoch(), actor.epoch());
        vm.assertEq(rollup.lastPostedAt(), actor.lastPostedAt());
        vm.assertTrue(rollup.paused() == actor.paused());
    }

    function invariant_exactly_the_commitments_that_stand_are_recorded() public view {
        Commitment[] memory standing = actor.standing();
        uint256 next = 0;
        for (uint64 number = 1; number <= actor.posted(); ++number) {
            bytes32 expected = 0;
            if (next < standing.length && standing[next].number == number) {
                expected = keccak256(abi.encode(standing[next]));
                ++next;
            }
            vm.assertEq(rollup.commitmentHash(number), expected);
        }
        vm.assertEq(next, standing.length);

        uint256 last = standing.length;
        vm.assertEq(rollup.revertCount(), actor.reverts());
        vm.assertEq(rollup.lastCommittedBatch(), last == 0 ? 0 : standing[last - 1].number);
        vm.assertEq(rollup.lastCommittedBlock(), last == 0 ? 0 : standing[last - 1].lastBlock);
    }

    /// @dev What is final is a prefix of what stands: a revert never takes a final commitment along.
    function invariant_commitments_join_and_become_final_in_order() public view {
        Commitment[] memory standing = actor.standing();
        for (uint256 i = 1; i < standing.length; ++i) {
            vm.assertEq(standing[i].firstBlock, standing[i - 1].lastBlock + 1);
            vm.assertEq(standing[i].previous, standing[i - 1].number);
            vm.assertGe(standing[i].finalAt, standing[i - 1].finalAt);
            vm.assertTrue(rollup.isFinal(standing[i - 1]) || !rollup.isFinal(standing[i]));
        }
    }
}
