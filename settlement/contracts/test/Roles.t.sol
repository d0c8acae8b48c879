// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {
    IAccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";
import {Rollup} from "../src/Rollup.sol";
import {Commitment} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

contract RolesTest is RollupTest {
    // ------------------------------------------------------------- handover

    function test_the_owner_is_replaced_in_two_steps_after_the_delay() public {
        vm.prank(OWNER);
        rollup.beginDefaultAdminTransfer(BOB);
        vm.assertEq(rollup.owner(), OWNER);

        vm.warp(START + OWNER_DELAY - 1);
        _expectTooEarly();
        vm.prank(BOB);
        rollup.acceptDefaultAdminTransfer();
        // The second itself is still too early, as OpenZeppelin counts.
        vm.warp(START + OWNER_DELAY);
        _expectTooEarly();
        vm.prank(BOB);
        rollup.acceptDefaultAdminTransfer();
        vm.warp(START + OWNER_DELAY + 1);
        vm.prank(BOB);
        rollup.acceptDefaultAdminTransfer();
        vm.assertEq(rollup.owner(), BOB);
        vm.assertFalse(rollup.hasRole(rollup.DEFAULT_ADMIN_ROLE(), OWNER));

        bytes32 admin = rollup.DEFAULT_ADMIN_ROLE();
        bytes32 role = rollup.BATCHER_ROLE();
        _expectMissingRole(OWNER, admin);
        vm.prank(OWNER);
        rollup.grantRole(role, OWNER);
        vm.prank(BOB);
        rollup.grantRole(role, BOB);
        vm.assertTrue(rollup.hasRole(role, BOB));
    }

    function test_only_the_one_who_is_named_accepts() public {
        vm.prank(OWNER);
        rollup.beginDefaultAdminTransfer(BOB);
        vm.warp(START + OWNER_DELAY + 1);
        address[2] memory others = [OWNER, STRANGER];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IAccessControlDefaultAdminRules.AccessControlInvalidDefaultAdmin.selector, others[i]
                )
            );
            vm.prank(others[i]);
            rollup.acceptDefaultAdminTransfer();
        }
    }

    function test_the_owner_alone_hands_over_and_may_think_better_of_it() public {
        bytes32 admin = rollup.DEFAULT_ADMIN_ROLE();
        _expectMissingRole(GUARDIAN, admin);
        vm.prank(GUARDIAN);
        rollup.beginDefaultAdminTransfer(GUARDIAN);

        vm.prank(OWNER);
        rollup.beginDefaultAdminTransfer(BOB);
        _expectMissingRole(STRANGER, admin);
        vm.prank(STRANGER);
        rollup.cancelDefaultAdminTransfer();
        vm.prank(OWNER);
        rollup.cancelDefaultAdminTransfer();
        vm.warp(START + OWNER_DELAY + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControlDefaultAdminRules.AccessControlInvalidDefaultAdmin.selector, BOB)
        );
        vm.prank(BOB);
        rollup.acceptDefaultAdminTransfer();
        vm.assertEq(rollup.owner(), OWNER);
    }

    function test_there_is_one_owner_and_no_way_around_the_two_steps() public {
        bytes32 admin = rollup.DEFAULT_ADMIN_ROLE();
        bytes memory reason =
            abi.encodeWithSelector(IAccessControlDefaultAdminRules.AccessControlEnforcedDefaultAdminRules.selector);
        vm.expectRevert(reason);
        vm.prank(OWNER);
        rollup.grantRole(admin, BOB);
        vm.expectRevert(reason);
        vm.prank(OWNER);
        rollup.revokeRole(admin, OWNER);
    }

    // ----------------------------------------------------- who holds a role

    function test_the_owner_replaces_the_batcher() public {
        bytes32 role = rollup.BATCHER_ROLE();
        vm.prank(OWNER);
        rollup.revokeRole(role, BATCHER);
        vm.prank(OWNER);
        rollup.grantRole(role, BOB);

        bytes memory reason = abi.encodeWithSelector(Rollup.SequencerIsAlive.selector, BATCHER, START + TIMEOUT);
        _expectPostRefused(BATCHER, 0, reason);
        _postAs(BOB, 0, 1, 1);
        vm.assertEq(rollup.batchCount(), 1);
    }

    function test_the_owner_replaces_committer_and_guardian() public {
        bytes32 committer = rollup.COMMITTER_ROLE();
        bytes32 guardian = rollup.GUARDIAN_ROLE();
        _post(1, 10);
        vm.prank(OWNER);
        rollup.revokeRole(committer, COMMITTER);
        vm.prank(OWNER);
        rollup.grantRole(committer, BOB);
        Commitment memory commitment = _commitment(1, 1, 10);
        _expectMissingRole(COMMITTER, committer);
        vm.prank(COMMITTER);
        _callCommit(commitment);
        vm.prank(BOB);
        _callCommit(commitment);

        vm.prank(OWNER);
        rollup.revokeRole(guardian, GUARDIAN);
        vm.prank(OWNER);
        rollup.grantRole(guardian, ALICE);
        _expectMissingRole(GUARDIAN, guardian);
        vm.prank(GUARDIAN);
        rollup.pause();
        vm.prank(ALICE);
        rollup.pause();
    }

    function test_roles_are_for_the_owner_to_give() public {
        bytes32 admin = rollup.DEFAULT_ADMIN_ROLE();
        bytes32[3] memory roles = [rollup.BATCHER_ROLE(), rollup.COMMITTER_ROLE(), rollup.GUARDIAN_ROLE()];
        address[5] memory others = [BATCHER, COMMITTER, GUARDIAN, STRANGER, address(timelock)];
        for (uint256 i = 0; i < roles.length; ++i) {
            for (uint256 j = 0; j < others.length; ++j) {
                _expectMissingRole(others[j], admin);
                vm.prank(others[j]);
                rollup.grantRole(roles[i], others[j]);
                _expectMissingRole(others[j], admin);
                vm.prank(others[j]);
                rollup.revokeRole(roles[i], BATCHER);
            }
        }
    }

    // ------------------------------------------- what it does not extend to

    function test_no_role_does_what_is_another_s() public {
        bytes32 batcher = rollup.BATCHER_ROLE();
        bytes32 committer = rollup.COMMITTER_ROLE();
        bytes32 guardian = rollup.GUARDIAN_ROLE();
        bytes32 admin = rollup.DEFAULT_ADMIN_ROLE();
        address[6] memory everyone = [OWNER, BATCHER, COMMITTER, GUARDIAN, address(timelock), STRANGER];
        _post(1, 10);
        _post(11, 20);
        Commitment memory first = _commit(1, 1, 10);
        Commitment memory second = _commitment(2, 11, 20);
        Commitment memory none;
        for (uint256 i = 0; i < everyone.length; ++i) {
            address one = everyone[i];
            if (one != BATCHER) {
                bytes memory reason = abi.encodeWithSelector(Rollup.SequencerIsAlive.selector, one, START + TIMEOUT);
                _expectPostRefused(one, 0, reason);
                _expectMissingRole(one, batcher);
                vm.prank(one);
                rollup.beginEpoch(1);
            }
            if (one != COMMITTER) {
                _expectMissingRole(one, committer);
                vm.prank(one);
                _callCommit(second);
            }
            if (one != GUARDIAN) {
                _expectMissingRole(one, guardian);
                vm.prank(one);
                rollup.pause();
                _expectMissingRole(one, guardian);
                vm.prank(one);
                rollup.revertCommitments(first, none);
            }
            if (one != OWNER) {
                _expectMissingRole(one, admin);
                vm.prank(one);
                rollup.unpause();
            }
            if (one != address(timelock)) {
                vm.expectRevert(abi.encodeWithSelector(Rollup.NotTheTimelock.selector, one));
                vm.prank(one);
                rollup.chooseVerifier(challengeWindow);
            }
        }
    }

    function _expectTooEarly() private {
        vm.expectRevert(
            abi.encodeWithSelector(
                IAccessControlDefaultAdminRules.AccessControlEnforcedDefaultAdminDelay.selector, START + OWNER_DELAY
            )
        );
    }
}
