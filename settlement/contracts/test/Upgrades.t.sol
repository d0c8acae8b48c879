// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {ProxyAdmin} from "@openzeppelin/contracts/proxy/transparent/ProxyAdmin.sol";
import {
    ITransparentUpgradeableProxy,
    TransparentUpgradeableProxy
} from "@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol";
import {ChallengeWindow} from "../src/ChallengeWindow.sol";
import {IVerifier} from "../src/IVerifier.sol";
import {Rollup} from "../src/Rollup.sol";
import {Commitment} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";
import {RollupV2, TokenBridgeV2} from "./support/RollupV2.sol";

/// @dev Code and verifier change by the timelock alone, and by it no sooner than after its delay.
contract UpgradesTest is RollupTest {
    bytes32 private constant SALT = keccak256("salt");

    function test_an_upgrade_waits_for_the_delay_to_the_second() public {
        (address target, bytes memory call) = _upgradeOfRollup();
        _schedule(target, call);

        vm.warp(START + TIMELOCK_DELAY - 1);
        _expectNotReady(target, call);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);

        vm.warp(START + TIMELOCK_DELAY);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);
        vm.assertEq(RollupV2(payable(address(rollup))).added(), 42);
    }

    function test_an_upgrade_may_come_later_than_it_might() public {
        (address target, bytes memory call) = _upgradeOfRollup();
        _schedule(target, call);
        vm.warp(START + TIMELOCK_DELAY + 1);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);
        vm.assertEq(RollupV2(payable(address(rollup))).added(), 42);
    }

    function test_an_upgrade_is_scheduled_with_the_delay_at_least() public {
        (address target, bytes memory call) = _upgradeOfRollup();
        vm.expectRevert(
            abi.encodeWithSelector(
                TimelockController.TimelockInsufficientDelay.selector, TIMELOCK_DELAY - 1, TIMELOCK_DELAY
            )
        );
        vm.prank(OWNER);
        timelock.schedule(target, 0, call, 0, SALT, TIMELOCK_DELAY - 1);
        vm.prank(OWNER);
        timelock.schedule(target, 0, call, 0, SALT, TIMELOCK_DELAY + 1);
        vm.warp(START + TIMELOCK_DELAY);
        _expectNotReady(target, call);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);
    }

    function test_an_upgrade_is_not_executed_unless_it_was_scheduled() public {
        (address target, bytes memory call) = _upgradeOfRollup();
        vm.warp(START + 365 days);
        _expectNotReady(target, call);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);
    }

    function test_the_timelock_is_for_the_owner() public {
        (address target, bytes memory call) = _upgradeOfRollup();
        bytes32 proposer = timelock.PROPOSER_ROLE();
        bytes32 executor = timelock.EXECUTOR_ROLE();
        _expectMissingRole(STRANGER, proposer);
        vm.prank(STRANGER);
        timelock.schedule(target, 0, call, 0, SALT, TIMELOCK_DELAY);

        _schedule(target, call);
        vm.warp(START + TIMELOCK_DELAY);
        _expectMissingRole(STRANGER, executor);
        vm.prank(STRANGER);
        timelock.execute(target, 0, call, 0, SALT);
        // Nobody but the timelock itself governs it.
        vm.assertTrue(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), address(timelock)));
        vm.assertFalse(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), OWNER));
        vm.assertFalse(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), address(this)));
    }

    function test_the_owner_cancels_an_upgrade() public {
        (address target, bytes memory call) = _upgradeOfRollup();
        _schedule(target, call);
        bytes32 id = timelock.hashOperation(target, 0, call, 0, SALT);
        vm.prank(OWNER);
        timelock.cancel(id);
        vm.warp(START + TIMELOCK_DELAY);
        _expectNotReady(target, call);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);
    }

    function test_state_survives_an_upgrade() public {
        vm.prank(ALICE, ALICE);
        rollup.depositETH{value: 3 ether}(BOB);
        _post(1, 10);
        _post(11, 20);
        Commitment memory commitment = _commit(1, 1, 10);
        vm.prank(BATCHER);
        rollup.beginEpoch(1);
        vm.roll(DEPLOYED_AT + 1);
        rollup.forceTransaction(hex"02");
        Commitment memory second = _commit(2, 11, 20);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(second, commitment);
        vm.prank(GUARDIAN);
        rollup.pause();
        bytes32 batchHash = rollup.batchHashes(2);
        bytes32 accumulator = rollup.depositAccumulator(2);

        (address target, bytes memory call) = _upgradeOfRollup();
        _schedule(target, call);
        vm.warp(START + TIMELOCK_DELAY);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);

        vm.assertEq(address(rollup).balance, 3 ether);
        vm.assertEq(rollup.depositCount(), 2);
        vm.assertEq(rollup.depositAccumulator(2), accumulator);
        vm.assertEq(rollup.queuedAt(0), DEPLOYED_AT);
        vm.assertEq(rollup.queuedAt(1), DEPLOYED_AT + 1);
        vm.assertEq(rollup.inclusionWindow(), INCLUSION);
        vm.assertEq(rollup.revertCount(), 1);
        vm.assertEq(rollup.batchCount(), 2);
        vm.assertEq(rollup.batchHashes(2), batchHash);
        vm.assertTrue(rollup.isFinal(commitment));
        vm.assertEq(rollup.lastCommittedBatch(), 1);
        vm.assertEq(rollup.lastCommittedBlock(), 10);
        vm.assertEq(rollup.currentEpoch(), 1);
        vm.assertEq(rollup.lastPostedAt(), START);
        vm.assertEq(rollup.deployedAt(), DEPLOYED_AT);
        vm.assertEq(rollup.genesisDigest(), keccak256(GENESIS));
        vm.assertEq(rollup.timelock(), address(timelock));
        vm.assertEq(rollup.tokenBridge(), address(bridge));
        vm.assertEq(rollup.owner(), OWNER);
        vm.assertTrue(rollup.hasRole(rollup.BATCHER_ROLE(), BATCHER));
        vm.assertTrue(rollup.paused());
        vm.assertEq(RollupV2(payable(address(rollup))).added(), 42);
        vm.prank(OWNER);
        rollup.unpause();
        _commit(2, 11, 20);
    }

    function test_an_upgraded_chain_is_not_initialized_again() public {
        (address target, bytes memory call) = _upgradeOfRollup();
        _schedule(target, call);
        vm.warp(START + TIMELOCK_DELAY);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);

        Rollup.Config memory config = _config();
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        rollup.initialize(config);
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        RollupV2(payable(address(rollup))).initializeV2(1);
    }

    function test_nobody_else_upgrades() public {
        RollupV2 next = new RollupV2();
        address[2] memory proxies = [address(rollup), address(bridge)];
        address[5] memory others = [OWNER, GUARDIAN, BATCHER, STRANGER, address(this)];
        for (uint256 i = 0; i < proxies.length; ++i) {
            ProxyAdmin admin = _proxyAdmin(proxies[i]);
            vm.assertEq(admin.owner(), address(timelock));
            for (uint256 j = 0; j < others.length; ++j) {
                vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, others[j]));
                vm.prank(others[j]);
                admin.upgradeAndCall(ITransparentUpgradeableProxy(proxies[i]), address(next), "");
                vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, others[j]));
                vm.prank(others[j]);
                admin.transferOwnership(others[j]);
                // The proxy passes it on to the code behind it, which knows no such function.
                vm.expectRevert(bytes(""));
                vm.prank(others[j]);
                ITransparentUpgradeableProxy(proxies[i]).upgradeToAndCall(address(next), "");
            }
        }
    }

    function test_the_admin_of_the_proxy_does_nothing_but_upgrade() public {
        ProxyAdmin admin = _proxyAdmin(address(rollup));
        vm.expectRevert(abi.encodeWithSelector(TransparentUpgradeableProxy.ProxyDeniedAdminAccess.selector));
        vm.prank(address(admin));
        rollup.batchCount();
    }

    function test_the_bridge_is_upgraded_by_the_timelock() public {
        TokenBridgeV2 next = new TokenBridgeV2();
        bytes memory call = abi.encodeCall(
            ProxyAdmin.upgradeAndCall, (ITransparentUpgradeableProxy(address(bridge)), address(next), "")
        );
        address target = address(_proxyAdmin(address(bridge)));
        _schedule(target, call);
        vm.warp(START + TIMELOCK_DELAY - 1);
        _expectNotReady(target, call);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);
        vm.warp(START + TIMELOCK_DELAY);
        vm.prank(OWNER);
        timelock.execute(target, 0, call, 0, SALT);
        vm.assertEq(TokenBridgeV2(address(bridge)).ADDED(), 7);
        vm.assertEq(address(bridge.rollup()), address(rollup));
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        bridge.initialize(rollup);
    }

    // ------------------------------------------------------------- verifier

    function test_the_timelock_chooses_the_verifier() public {
        ChallengeWindow next = new ChallengeWindow(2 hours);
        bytes memory call = abi.encodeCall(Rollup.chooseVerifier, (next));
        _schedule(address(rollup), call);
        vm.warp(START + TIMELOCK_DELAY - 1);
        _expectNotReady(address(rollup), call);
        vm.prank(OWNER);
        timelock.execute(address(rollup), 0, call, 0, SALT);
        vm.assertEq(address(rollup.verifier()), address(challengeWindow));

        vm.warp(START + TIMELOCK_DELAY);
        vm.expectEmit(address(rollup));
        emit Rollup.VerifierChosen(next);
        vm.prank(OWNER);
        timelock.execute(address(rollup), 0, call, 0, SALT);
        vm.assertEq(address(rollup.verifier()), address(next));
    }

    function test_nobody_else_chooses_the_verifier() public {
        address[5] memory others = [OWNER, GUARDIAN, COMMITTER, STRANGER, address(_proxyAdmin(address(bridge)))];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.NotTheTimelock.selector, others[i]));
            vm.prank(others[i]);
            rollup.chooseVerifier(challengeWindow);
        }
    }

    function test_there_is_always_a_verifier() public {
        address[2] memory none = [address(0), STRANGER];
        for (uint256 i = 0; i < none.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Rollup.NotAContract.selector, none[i]));
            _choose(IVerifier(none[i]));
        }
        vm.assertEq(address(rollup.verifier()), address(challengeWindow));
    }

    // -------------------------------------------------------------- helpers

    function _upgradeOfRollup() private returns (address target, bytes memory call) {
        RollupV2 next = new RollupV2();
        target = address(_proxyAdmin(address(rollup)));
        call = abi.encodeCall(
            ProxyAdmin.upgradeAndCall,
            (ITransparentUpgradeableProxy(address(rollup)), address(next), abi.encodeCall(RollupV2.initializeV2, (42)))
        );
    }

    function _schedule(address target, bytes memory call) private {
        vm.prank(OWNER);
        timelock.schedule(target, 0, call, 0, SALT, TIMELOCK_DELAY);
    }

    function _expectNotReady(address target, bytes memory call) private {
        bytes32 id = timelock.hashOperation(target, 0, call, 0, SALT);
        vm.expectRevert(
            abi.encodeWithSelector(
                TimelockController.TimelockUnexpectedOperationState.selector,
                id,
                bytes32(1 << uint8(TimelockController.OperationState.Ready))
            )
        );
    }
}
