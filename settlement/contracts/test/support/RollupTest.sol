// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {ProxyAdmin} from "@openzeppelin/contracts/proxy/transparent/ProxyAdmin.sol";
import {TransparentUpgradeableProxy} from "@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol";
import {ChallengeWindow} from "../../src/ChallengeWindow.sol";
import {IVerifier} from "../../src/IVerifier.sol";
import {Rollup} from "../../src/Rollup.sol";
import {TokenBridge} from "../../src/TokenBridge.sol";
import {BatchHeader, Commitment} from "../../src/Types.sol";
import {Vm} from "./Vm.sol";

/// @dev A freshly deployed chain as operators deploy it (timelock, proxies, bridge), its people, and short ways to post
/// and commit.
abstract contract RollupTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address internal constant OWNER = address(0xA1);
    address internal constant BATCHER = address(0xA2);
    address internal constant COMMITTER = address(0xA3);
    address internal constant GUARDIAN = address(0xA4);
    address internal constant ALICE = address(0xB1);
    address internal constant BOB = address(0xB2);
    address internal constant STRANGER = address(0xC1);
    uint64 internal constant WINDOW = 1 hours;
    uint64 internal constant TIMEOUT = 30 minutes;
    /// @dev In L1 blocks.
    uint64 internal constant INCLUSION = 100;
    uint48 internal constant OWNER_DELAY = 3 days;
    uint256 internal constant TIMELOCK_DELAY = 2 days;
    uint64 internal constant DEPLOYED_AT = 77;
    uint64 internal constant START = 1_700_000_000;
    bytes internal constant GENESIS = hex"28b52ffd01";

    /// @dev Where a proxy keeps its code and its admin (ERC-1967).
    bytes32 private constant IMPLEMENTATION_SLOT = bytes32(uint256(keccak256("eip1967.proxy.implementation")) - 1);
    bytes32 private constant ADMIN_SLOT = bytes32(uint256(keccak256("eip1967.proxy.admin")) - 1);

    TimelockController internal timelock;
    ChallengeWindow internal challengeWindow;
    Rollup internal rollup;
    TokenBridge internal bridge;

    function setUp() public virtual {
        vm.warp(START);
        vm.roll(DEPLOYED_AT);
        address[] memory operators = new address[](1);
        operators[0] = OWNER;
        timelock = new TimelockController(TIMELOCK_DELAY, operators, operators, address(0));
        challengeWindow = new ChallengeWindow(WINDOW);
        // The chain and the bridge know each other, and the chain comes first: two contracts, then two of the bridge.
        bridge = TokenBridge(vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 3));
        rollup = _deploy(_config());
        vm.assertEq(_deployBridge(rollup), address(bridge));
        vm.deal(ALICE, 1_000_000 ether);
    }

    function _config() internal view returns (Rollup.Config memory) {
        return Rollup.Config({
            owner: OWNER,
            ownerTransferDelay: OWNER_DELAY,
            batcher: BATCHER,
            committer: COMMITTER,
            guardian: GUARDIAN,
            timelock: address(timelock),
            verifier: challengeWindow,
            tokenBridge: address(bridge),
            l2ChainId: 420_001,
            sequencerTimeout: TIMEOUT,
            inclusionWindow: INCLUSION,
            genesisHash: keccak256("genesis"),
            genesisStateRoot: keccak256("genesis state root"),
            genesisDigest: keccak256(GENESIS)
        });
    }

    /// @dev A chain of its own: code and proxy.
    function _deploy(Rollup.Config memory config) internal returns (Rollup) {
        Rollup code = new Rollup();
        return Rollup(payable(_proxy(address(code), abi.encodeCall(Rollup.initialize, (config)))));
    }

    function _deployBridge(Rollup chain) internal returns (address) {
        TokenBridge code = new TokenBridge();
        return _proxy(address(code), abi.encodeCall(TokenBridge.initialize, (chain)));
    }

    function _proxy(address code, bytes memory call) internal returns (address) {
        return address(new TransparentUpgradeableProxy(code, address(timelock), call));
    }

    function _implementation(address proxy) internal view returns (address) {
        return address(uint160(uint256(vm.load(proxy, IMPLEMENTATION_SLOT))));
    }

    function _proxyAdmin(address proxy) internal view returns (ProxyAdmin) {
        return ProxyAdmin(address(uint160(uint256(vm.load(proxy, ADMIN_SLOT)))));
    }

    // -------------------------------------------------------------- batches

    /// @dev The header of the next batch, in one blob, over all deposits so far.
    function _header(uint64 firstBlock, uint64 lastBlock) internal view returns (BatchHeader memory) {
        uint64 number = rollup.batchCount() + 1;
        uint64 depositsEnd = rollup.depositCount();
        return BatchHeader({
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
        BatchHeader memory header,
        bytes32[] memory blobHashes,
        bytes memory daPointer
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(previous, header, keccak256(abi.encode(blobHashes)), keccak256(daPointer)));
    }

    /// @dev Posts the next batch, in one blob.
    function _post(uint64 firstBlock, uint64 lastBlock) internal returns (uint64 number) {
        return _postAs(BATCHER, rollup.currentEpoch(), firstBlock, lastBlock);
    }

    function _postAs(address sender, uint32 epoch, uint64 firstBlock, uint64 lastBlock)
        internal
        returns (uint64 number)
    {
        BatchHeader memory header = _header(firstBlock, lastBlock);
        vm.blobhashes(_blobs(1));
        vm.prank(sender);
        rollup.postBatch(epoch, header, "");
        vm.blobhashes(new bytes32[](0));
        return header.number;
    }

    function _expectPostRefused(address sender, uint32 epoch, bytes memory reason) internal {
        BatchHeader memory header = _header(1, 1);
        vm.blobhashes(_blobs(1));
        vm.expectRevert(reason);
        vm.prank(sender);
        rollup.postBatch(epoch, header, "");
        vm.blobhashes(new bytes32[](0));
    }

    // ---------------------------------------------------------- commitments

    /// @dev What a commit of `number` now would record, by the challenge window.
    function _commitment(uint64 number, uint64 firstBlock, uint64 lastBlock) internal view returns (Commitment memory) {
        return Commitment({
            number: number,
            previous: rollup.lastCommittedBatch(),
            batchHash: rollup.batchHashes(number),
            firstBlock: firstBlock,
            lastBlock: lastBlock,
            lastBlockHash: keccak256(abi.encode("block", lastBlock)),
            stateRoot: keccak256(abi.encode("state", lastBlock)),
            messageRoot: keccak256(abi.encode("messages", lastBlock)),
            // Asked of forge, since the optimizer reads block.timestamp once a call, before a later warp.
            committedAt: _now(),
            finalAt: _now() + WINDOW
        });
    }

    /// @dev Commits what `commitment` says, as the next caller (`vm.prank` before).
    function _callCommit(Commitment memory commitment, bytes memory proof) internal {
        rollup.commitBatch(
            commitment.number,
            commitment.batchHash,
            commitment.firstBlock,
            commitment.lastBlock,
            commitment.lastBlockHash,
            commitment.stateRoot,
            commitment.messageRoot,
            proof
        );
    }

    function _callCommit(Commitment memory commitment) internal {
        _callCommit(commitment, "");
    }

    function _commit(uint64 number, uint64 firstBlock, uint64 lastBlock)
        internal
        returns (Commitment memory commitment)
    {
        commitment = _commitment(number, firstBlock, lastBlock);
        vm.prank(COMMITTER);
        _callCommit(commitment);
    }

    function _commitmentHash(Commitment memory commitment) internal pure returns (bytes32) {
        return keccak256(abi.encode(commitment));
    }

    function _choose(IVerifier verifier) internal {
        vm.prank(address(timelock));
        rollup.chooseVerifier(verifier);
    }

    // ------------------------------------------------------------- the rest

    function _now() internal view returns (uint64) {
        return uint64(vm.getBlockTimestamp());
    }

    function _depositHash(uint64 index, address from, address to, uint256 value, uint64 gasLimit, bytes memory data)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(index, from, to, value, gasLimit, keccak256(data)));
    }

    function _forcedHash(uint64 index, bytes memory transaction) internal pure returns (bytes32) {
        return keccak256(abi.encode(index, keccak256(transaction)));
    }

    /// @dev A number from `low` to `high`, both included.
    function _between(uint256 seed, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + seed % (high - low + 1);
    }

    function _expectMissingRole(address caller, bytes32 role) internal {
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, caller, role));
    }
}
