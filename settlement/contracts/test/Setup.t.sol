// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {TransparentUpgradeableProxy} from "@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol";
import {IVerifier} from "../src/IVerifier.sol";
import {Rollup} from "../src/Rollup.sol";
import {TokenBridge} from "../src/TokenBridge.sol";
import {Commitment} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

contract SetupTest is RollupTest {
    function test_initialize_keeps_the_configuration() public view {
        vm.assertEq(rollup.VERSION(), 2);
        vm.assertEq(rollup.l2ChainId(), 420_001);
        vm.assertEq(rollup.sequencerTimeout(), TIMEOUT);
        vm.assertEq(rollup.inclusionWindow(), INCLUSION);
        vm.assertEq(address(rollup.verifier()), address(challengeWindow));
        vm.assertEq(rollup.timelock(), address(timelock));
        vm.assertEq(rollup.tokenBridge(), address(bridge));
        vm.assertEq(rollup.genesisHash(), keccak256("genesis"));
        vm.assertEq(rollup.genesisStateRoot(), keccak256("genesis state root"));
        vm.assertEq(rollup.genesisDigest(), keccak256(GENESIS));
        vm.assertEq(rollup.deployedAt(), DEPLOYED_AT);
        vm.assertEq(rollup.owner(), OWNER);
        vm.assertEq(rollup.defaultAdmin(), OWNER);
        vm.assertEq(rollup.defaultAdminDelay(), OWNER_DELAY);
        vm.assertEq(address(bridge.rollup()), address(rollup));
    }

    function test_initialize_grants_each_role_once() public view {
        bytes32[4] memory roles =
            [rollup.DEFAULT_ADMIN_ROLE(), rollup.GUARDIAN_ROLE(), rollup.BATCHER_ROLE(), rollup.COMMITTER_ROLE()];
        address[4] memory holders = [OWNER, GUARDIAN, BATCHER, COMMITTER];
        address[7] memory accounts =
            [OWNER, GUARDIAN, BATCHER, COMMITTER, address(this), address(rollup), address(timelock)];
        for (uint256 i = 0; i < roles.length; ++i) {
            vm.assertEq(rollup.getRoleAdmin(roles[i]), rollup.DEFAULT_ADMIN_ROLE());
            for (uint256 j = 0; j < accounts.length; ++j) {
                vm.assertTrue(rollup.hasRole(roles[i], accounts[j]) == (accounts[j] == holders[i]));
            }
        }
    }

    function test_everything_counts_from_zero() public view {
        vm.assertEq(rollup.batchCount(), 0);
        vm.assertEq(rollup.depositCount(), 0);
        vm.assertEq(rollup.currentEpoch(), 0);
        vm.assertEq(rollup.revertCount(), 0);
        vm.assertEq(rollup.queuedAt(0), 0);
        vm.assertEq(rollup.lastCommittedBatch(), 0);
        vm.assertEq(rollup.lastCommittedBlock(), 0);
        vm.assertEq(rollup.batchHashes(0), 0);
        vm.assertEq(rollup.depositAccumulator(0), 0);
        vm.assertEq(rollup.commitmentHash(0), 0);
        vm.assertFalse(rollup.paused());
        vm.assertEq(rollup.lastPostedAt(), START);
    }

    function test_initialize_emits_the_verifier() public {
        Rollup code = new Rollup();
        bytes memory call = abi.encodeCall(Rollup.initialize, (_config()));
        address proxy = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
        vm.expectEmit(proxy);
        emit Rollup.VerifierChosen(challengeWindow);
        vm.assertEq(_proxy(address(code), call), proxy);
    }

    function test_initialize_once() public {
        Rollup.Config memory config = _config();
        config.owner = STRANGER;
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        rollup.initialize(config);
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        vm.prank(OWNER);
        rollup.initialize(config);
    }

    function test_the_code_behind_the_proxy_is_not_initialized() public {
        Rollup code = Rollup(payable(_implementation(address(rollup))));
        Rollup.Config memory config = _config();
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        code.initialize(config);
        vm.assertEq(code.owner(), address(0));
    }

    function test_initialize_names_the_field_that_is_zero() public {
        Rollup.Config memory config = _config();
        config.owner = address(0);
        _expectZero(config, "owner");

        config = _config();
        config.batcher = address(0);
        _expectZero(config, "batcher");

        config = _config();
        config.committer = address(0);
        _expectZero(config, "committer");

        config = _config();
        config.guardian = address(0);
        _expectZero(config, "guardian");

        config = _config();
        config.timelock = address(0);
        _expectZero(config, "timelock");

        config = _config();
        config.verifier = IVerifier(address(0));
        _expectZero(config, "verifier");

        config = _config();
        config.tokenBridge = address(0);
        _expectZero(config, "tokenBridge");

        config = _config();
        config.l2ChainId = 0;
        _expectZero(config, "l2ChainId");

        config = _config();
        config.sequencerTimeout = 0;
        _expectZero(config, "sequencerTimeout");

        config = _config();
        config.inclusionWindow = 0;
        _expectZero(config, "inclusionWindow");

        config = _config();
        config.genesisHash = 0;
        _expectZero(config, "genesisHash");

        config = _config();
        config.genesisStateRoot = 0;
        _expectZero(config, "genesisStateRoot");

        config = _config();
        config.genesisDigest = 0;
        _expectZero(config, "genesisDigest");
    }

    function test_the_owner_may_be_replaced_without_delay_where_the_configuration_says_so() public {
        Rollup.Config memory config = _config();
        config.ownerTransferDelay = 0;
        rollup = _deploy(config);
        vm.assertEq(rollup.defaultAdminDelay(), 0);
        vm.prank(OWNER);
        rollup.beginDefaultAdminTransfer(BOB);
        vm.warp(START + 1);
        vm.prank(BOB);
        rollup.acceptDefaultAdminTransfer();
        vm.assertEq(rollup.owner(), BOB);
    }

    function test_the_bridge_is_initialized_once() public {
        vm.assertEq(address(bridge.rollup()), address(rollup));
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        bridge.initialize(Rollup(payable(STRANGER)));
        TokenBridge code = TokenBridge(_implementation(address(bridge)));
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        code.initialize(rollup);
        vm.assertEq(address(code.rollup()), address(0));
    }

    function test_the_bridge_belongs_to_a_chain() public {
        address code = _implementation(address(bridge));
        vm.expectRevert(abi.encodeWithSelector(TokenBridge.RollupZero.selector));
        new TransparentUpgradeableProxy(
            code, address(timelock), abi.encodeCall(TokenBridge.initialize, (Rollup(payable(address(0)))))
        );
    }

    /// @dev Or somebody else could initialize it between two transactions.
    function test_a_proxy_is_not_made_without_initializing_it() public {
        address[2] memory codes = [_implementation(address(rollup)), _implementation(address(bridge))];
        for (uint256 i = 0; i < codes.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ERC1967Proxy.ERC1967ProxyUninitialized.selector));
            new TransparentUpgradeableProxy(codes[i], address(timelock), "");
        }
    }

    function test_publishGenesis_emits_for_anyone() public {
        vm.expectEmit(address(rollup));
        emit Rollup.GenesisPublished(GENESIS);
        vm.prank(STRANGER);
        rollup.publishGenesis(GENESIS);
    }

    function test_no_other_genesis_is_published() public {
        bytes memory other = bytes.concat(GENESIS, hex"00");
        vm.expectRevert(abi.encodeWithSelector(Rollup.GenesisMismatch.selector, keccak256(other), keccak256(GENESIS)));
        vm.prank(OWNER);
        rollup.publishGenesis(other);
        vm.expectRevert(abi.encodeWithSelector(Rollup.GenesisMismatch.selector, keccak256(""), keccak256(GENESIS)));
        vm.prank(OWNER);
        rollup.publishGenesis("");
    }

    function test_other_people_s_proofs_find_the_documented_slots() public {
        _post(1, 10);
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 1}(BOB);
        Commitment memory none;
        Commitment memory reverted = _commit(1, 1, 10);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(reverted, none);
        _commit(1, 1, 10);
        // Slot 0, from the low end: batchCount, depositCount, lastPostedAt, epoch, paused.
        vm.assertEq(uint256(vm.load(address(rollup), 0)), uint256(1) | uint256(1) << 64 | uint256(START) << 128);
        // Slot 1, from the low end: lastBatch, lastBlock, lastFinalAt, reverts, paused.
        vm.assertEq(
            uint256(vm.load(address(rollup), bytes32(uint256(1)))),
            uint256(1) | uint256(10) << 64 | uint256(START + WINDOW) << 128 | uint256(1) << 192
        );
        // Slots 3, 4 and 5: hashes of batches, of commitments, of the queue; slot 6: the blocks of the queue's entries.
        vm.assertEq(_entry(1, 3), rollup.batchHashes(1));
        vm.assertEq(_entry(1, 4), rollup.commitmentHash(1));
        vm.assertEq(_entry(1, 5), rollup.depositAccumulator(1));
        vm.assertEq(uint256(_entry(0, 6)), DEPLOYED_AT);
        vm.assertTrue(_entry(1, 3) != 0 && _entry(1, 4) != 0 && _entry(1, 5) != 0);
    }

    /// @dev A proxy keeps its storage when its code changes: what moves a slot breaks every chain that is upgraded.
    function test_what_a_chain_is_made_with_is_in_its_slots() public view {
        vm.assertEq(_slot(address(rollup), 2), uint160(address(challengeWindow)));
        vm.assertEq(_slot(address(rollup), 8), uint160(address(bridge)));
        vm.assertEq(_slot(address(rollup), 9), uint160(address(timelock)) | uint256(420_001) << 160);
        vm.assertEq(
            _slot(address(rollup), 10), uint256(TIMEOUT) | uint256(INCLUSION) << 64 | uint256(DEPLOYED_AT) << 128
        );
        vm.assertEq(bytes32(_slot(address(rollup), 11)), keccak256("genesis"));
        vm.assertEq(bytes32(_slot(address(rollup), 12)), keccak256("genesis state root"));
        vm.assertEq(bytes32(_slot(address(rollup), 13)), keccak256(GENESIS));
        vm.assertEq(_slot(address(rollup), 14), 0);
        vm.assertEq(_slot(address(bridge), 0), uint160(address(rollup)));
    }

    function _slot(address account, uint256 slot) private view returns (uint256) {
        return uint256(vm.load(account, bytes32(slot)));
    }

    function _entry(uint64 key, uint256 slot) private view returns (bytes32) {
        return vm.load(address(rollup), keccak256(abi.encode(key, slot)));
    }

    function _expectZero(Rollup.Config memory config, string memory field) private {
        address code = _implementation(address(rollup));
        vm.expectRevert(abi.encodeWithSelector(Rollup.ConfigFieldZero.selector, field));
        new TransparentUpgradeableProxy(code, address(timelock), abi.encodeCall(Rollup.initialize, (config)));
    }
}
