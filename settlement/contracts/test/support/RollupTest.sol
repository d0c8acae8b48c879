// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Rollup} from "../../src/Rollup.sol";
import {Vm} from "./Vm.sol";

/// @dev A freshly deployed rollup, its people, and short ways to post and commit.
abstract contract RollupTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address internal constant OWNER = address(0xA1);
    address internal constant BATCHER = address(0xA2);
    address internal constant COMMITTER = address(0xA3);
    address internal constant ALICE = address(0xB1);
    address internal constant BOB = address(0xB2);
    uint64 internal constant WINDOW = 1 hours;
    uint64 internal constant DEPLOYED_AT = 77;
    uint64 internal constant START = 1_700_000_000;

    Rollup internal rollup;

    function setUp() public virtual {
        vm.warp(START);
        vm.roll(DEPLOYED_AT);
        rollup = new Rollup(_config());
        vm.deal(ALICE, 1_000_000 ether);
    }

    function _config() internal pure returns (Rollup.Config memory) {
        return Rollup.Config({
            owner: OWNER,
            batcher: BATCHER,
            committer: COMMITTER,
            l2ChainId: 420_001,
            challengeWindow: WINDOW,
            genesisHash: keccak256("genesis"),
            genesisStateRoot: keccak256("genesis state root")
        });
    }

    // -------------------------------------------------------------- batches

    /// @dev The header of the next batch, in one blob, over all deposits so far.
    function _header(uint64 firstBlock, uint64 lastBlock) internal view returns (Rollup.BatchHeader memory) {
        uint64 number = rollup.batchCount() + 1;
        uint64 depositsEnd = rollup.depositCount();
        return Rollup.BatchHeader({
            number: number,
            firstBlock: firstBlock,
            lastBlock: lastBlock,
            depositsEnd: depositsEnd,
            depositsHash: rollup.depositAccumulator(depositsEnd),
            digest: keccak256(abi.encode("digest", number)),
            daKind: 1
        });
    }

    function _blobs(uint256 count) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            hashes[i] = (keccak256(abi.encode("blob", i)) >> 8) | bytes32(uint256(1) << 248);
        }
    }

    function _batchHash(
        bytes32 previous,
        Rollup.BatchHeader memory header,
        bytes32[] memory blobHashes,
        bytes memory daPointer
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(previous, header, keccak256(abi.encode(blobHashes)), keccak256(daPointer)));
    }

    /// @dev Posts the next batch, in one blob.
    function _post(uint64 firstBlock, uint64 lastBlock) internal returns (uint64 number) {
        Rollup.BatchHeader memory header = _header(firstBlock, lastBlock);
        vm.blobhashes(_blobs(1));
        vm.prank(BATCHER);
        rollup.postBatch(header, "");
        vm.blobhashes(new bytes32[](0));
        return header.number;
    }

    // ---------------------------------------------------------- commitments

    /// @dev What a commit of `number` now would record.
    function _commitment(uint64 number, uint64 firstBlock, uint64 lastBlock)
        internal
        view
        returns (Rollup.Commitment memory)
    {
        return Rollup.Commitment({
            number: number,
            previous: rollup.lastCommittedBatch(),
            batchHash: rollup.batchHashes(number),
            firstBlock: firstBlock,
            lastBlock: lastBlock,
            lastBlockHash: keccak256(abi.encode("block", lastBlock)),
            stateRoot: keccak256(abi.encode("state", lastBlock)),
            messageRoot: keccak256(abi.encode("messages", lastBlock)),
            // Asked of forge, since the optimizer reads block.timestamp once a call, before a later warp.
            committedAt: uint64(vm.getBlockTimestamp())
        });
    }

    /// @dev Commits what `commitment` says, as the next caller (`vm.prank` before).
    function _callCommit(Rollup.Commitment memory commitment) internal {
        rollup.commitBatch(
            commitment.number,
            commitment.batchHash,
            commitment.firstBlock,
            commitment.lastBlock,
            commitment.lastBlockHash,
            commitment.stateRoot,
            commitment.messageRoot
        );
    }

    function _commit(uint64 number, uint64 firstBlock, uint64 lastBlock)
        internal
        returns (Rollup.Commitment memory commitment)
    {
        commitment = _commitment(number, firstBlock, lastBlock);
        vm.prank(COMMITTER);
        _callCommit(commitment);
    }

    function _commitmentHash(Rollup.Commitment memory commitment) internal pure returns (bytes32) {
        return keccak256(abi.encode(commitment));
    }

    // ------------------------------------------------------------- the rest

    function _depositHash(uint64 index, address from, address to, uint256 value, uint64 gasLimit, bytes memory data)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(index, from, to, value, gasLimit, keccak256(data)));
    }

    function _expectMissingRole(address caller, bytes32 role) internal {
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, caller, role));
    }
}
