// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {RollupTest} from "./support/RollupTest.sol";
import {Vm} from "./support/Vm.sol";

/// @dev What the people of a chain do, in any order; keeps its own account of it.
contract Actor {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    Rollup private immutable rollup;
    address private immutable owner;
    address private immutable batcher;
    address private immutable committer;

    uint256 public deposited;
    bytes32 public accumulator;
    uint64 public deposits;
    uint64 public posted;
    Rollup.Commitment[] private commitments;

    constructor(Rollup rollup_, address owner_, address batcher_, address committer_) {
        rollup = rollup_;
        owner = owner_;
        batcher = batcher_;
        committer = committer_;
    }

    function deposit(uint96 value, uint64 gasSeed, bytes calldata data) external {
        address from = address(0xB1);
        uint256 length = data.length < 24_000 ? data.length : 24_000;
        uint64 minimum = uint64(21_000 + 40 * length);
        uint64 gasLimit = minimum + gasSeed % (1_000_001 - minimum);
        vm.deal(from, value);
        vm.prank(from, from);
        rollup.depositTransaction{value: value}(address(0xB2), gasLimit, data[:length]);

        bytes32 depositHash =
            keccak256(abi.encode(deposits, from, address(0xB2), uint256(value), gasLimit, keccak256(data[:length])));
        accumulator = keccak256(abi.encode(accumulator, depositHash));
        deposited += value;
        deposits += 1;
    }

    function post(uint64 depositsSeed, uint16 blocks, bytes32 digest) external {
        uint64 depositsEnd = depositsSeed % (deposits + 1);
        Rollup.BatchHeader memory header = Rollup.BatchHeader({
            number: posted + 1,
            firstBlock: 1,
            lastBlock: uint64(1) + blocks,
            depositsEnd: depositsEnd,
            depositsHash: rollup.depositAccumulator(depositsEnd),
            digest: digest,
            daKind: 5
        });
        vm.prank(batcher);
        rollup.postBatch(header, hex"01");
        posted += 1;
    }

    function commit(uint64 skip, uint16 blocks, bytes32 root) external {
        Rollup.Commitment memory last = _last();
        uint64 uncommitted = posted - last.number;
        if (uncommitted == 0) return;
        uint64 number = last.number + 1 + skip % uncommitted;
        Rollup.Commitment memory next = Rollup.Commitment({
            number: number,
            previous: last.number,
            batchHash: rollup.batchHashes(number),
            firstBlock: last.lastBlock + 1,
            lastBlock: last.lastBlock + 1 + blocks,
            lastBlockHash: root,
            stateRoot: root,
            messageRoot: root,
            committedAt: uint64(block.timestamp)
        });
        vm.prank(committer);
        rollup.commitBatch(
            number,
            next.batchHash,
            next.firstBlock,
            next.lastBlock,
            next.lastBlockHash,
            next.stateRoot,
            next.messageRoot
        );
        commitments.push(next);
    }

    function revertCommitments(uint256 keepSeed) external {
        if (commitments.length == 0) return;
        uint256 keep = keepSeed % commitments.length;
        if (rollup.isFinal(commitments[keep])) return;
        Rollup.Commitment memory first = commitments[keep];
        Rollup.Commitment memory newLast;
        if (keep > 0) newLast = commitments[keep - 1];
        vm.prank(owner);
        rollup.revertCommitments(first, newLast);
        while (commitments.length > keep) commitments.pop();
    }

    function wait_(uint16 time) external {
        vm.warp(block.timestamp + time);
    }

    /// @dev The commitments that stand, oldest first.
    function standing() external view returns (Rollup.Commitment[] memory) {
        return commitments;
    }

    function _last() private view returns (Rollup.Commitment memory last) {
        if (commitments.length > 0) last = commitments[commitments.length - 1];
    }
}

contract InvariantsTest is RollupTest {
    Actor private actor;

    function setUp() public override {
        super.setUp();
        actor = new Actor(rollup, OWNER, BATCHER, COMMITTER);
    }

    /// @dev Read by forge: what it calls at random.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function invariant_the_balance_is_the_sum_of_deposits() public view {
        vm.assertEq(address(rollup).balance, actor.deposited());
    }

    function invariant_the_queue_is_what_was_deposited() public view {
        vm.assertEq(rollup.depositCount(), actor.deposits());
        vm.assertEq(rollup.depositAccumulator(actor.deposits()), actor.accumulator());
    }

    function invariant_exactly_the_commitments_that_stand_are_recorded() public view {
        Rollup.Commitment[] memory standing = actor.standing();
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
        vm.assertEq(rollup.batchCount(), actor.posted());
        vm.assertEq(rollup.lastCommittedBatch(), last == 0 ? 0 : standing[last - 1].number);
        vm.assertEq(rollup.lastCommittedBlock(), last == 0 ? 0 : standing[last - 1].lastBlock);
    }
}
