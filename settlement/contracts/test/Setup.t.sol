// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../src/Rollup.sol";
import {RollupTest} from "./support/RollupTest.sol";

contract SetupTest is RollupTest {
    function test_constructor_keeps_the_configuration() public view {
        vm.assertEq(rollup.VERSION(), 1);
        vm.assertEq(rollup.l2ChainId(), 420_001);
        vm.assertEq(rollup.challengeWindow(), WINDOW);
        vm.assertEq(rollup.genesisHash(), keccak256("genesis"));
        vm.assertEq(rollup.genesisStateRoot(), keccak256("genesis state root"));
        vm.assertEq(rollup.deployedAt(), DEPLOYED_AT);
    }

    function test_constructor_grants_each_role_once() public view {
        bytes32[4] memory roles =
            [rollup.DEFAULT_ADMIN_ROLE(), rollup.GUARDIAN_ROLE(), rollup.BATCHER_ROLE(), rollup.COMMITTER_ROLE()];
        address[4] memory holders = [OWNER, OWNER, BATCHER, COMMITTER];
        address[5] memory accounts = [OWNER, BATCHER, COMMITTER, address(this), address(rollup)];
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
        vm.assertEq(rollup.lastCommittedBatch(), 0);
        vm.assertEq(rollup.lastCommittedBlock(), 0);
        vm.assertEq(rollup.batchHashes(0), 0);
        vm.assertEq(rollup.depositAccumulator(0), 0);
        vm.assertEq(rollup.commitmentHash(0), 0);
    }

    function test_constructor_names_the_field_that_is_zero() public {
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
        config.l2ChainId = 0;
        _expectZero(config, "l2ChainId");

        config = _config();
        config.genesisHash = 0;
        _expectZero(config, "genesisHash");

        config = _config();
        config.genesisStateRoot = 0;
        _expectZero(config, "genesisStateRoot");
    }

    function test_a_window_of_zero_is_final_at_once() public {
        Rollup.Config memory config = _config();
        config.challengeWindow = 0;
        rollup = new Rollup(config);
        _post(1, 1);
        vm.assertTrue(rollup.isFinal(_commit(1, 1, 1)));
    }

    function test_a_window_without_end_is_never_final() public {
        Rollup.Config memory config = _config();
        config.challengeWindow = type(uint64).max;
        rollup = new Rollup(config);
        _post(1, 1);
        Rollup.Commitment memory commitment = _commit(1, 1, 1);
        vm.warp(type(uint64).max);
        vm.assertFalse(rollup.isFinal(commitment));
    }

    function test_publishGenesis_emits() public {
        vm.expectEmit(address(rollup));
        emit Rollup.GenesisPublished(hex"28b52ffd01");
        vm.prank(OWNER);
        rollup.publishGenesis(hex"28b52ffd01");
    }

    function test_publishGenesis_is_for_the_admin() public {
        bytes32 role = rollup.DEFAULT_ADMIN_ROLE();
        _expectMissingRole(BATCHER, role);
        vm.prank(BATCHER);
        rollup.publishGenesis(hex"28b52ffd01");
    }

    function test_the_admin_replaces_the_batcher() public {
        bytes32 role = rollup.BATCHER_ROLE();
        vm.prank(OWNER);
        rollup.revokeRole(role, BATCHER);
        vm.prank(OWNER);
        rollup.grantRole(role, BOB);

        Rollup.BatchHeader memory header = _header(1, 1);
        vm.blobhashes(_blobs(1));
        _expectMissingRole(BATCHER, role);
        vm.prank(BATCHER);
        rollup.postBatch(header, "");

        vm.prank(BOB);
        rollup.postBatch(header, "");
        vm.assertEq(rollup.batchCount(), 1);
    }

    function _expectZero(Rollup.Config memory config, string memory field) private {
        vm.expectRevert(abi.encodeWithSelector(Rollup.ConfigFieldZero.selector, field));
        new Rollup(config);
    }
}
