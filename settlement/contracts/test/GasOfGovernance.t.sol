// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {
    IAccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {ProxyAdmin} from "@openzeppelin/contracts/proxy/transparent/ProxyAdmin.sol";
import {ITransparentUpgradeableProxy} from "@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol";
import {IERC1155Receiver} from "@openzeppelin/contracts/token/ERC1155/IERC1155Receiver.sol";
import {IERC721Receiver} from "@openzeppelin/contracts/token/ERC721/IERC721Receiver.sol";
import {ChallengeWindow} from "../src/ChallengeWindow.sol";
import {Rollup} from "../src/Rollup.sol";
import {TokenBridge} from "../src/TokenBridge.sol";
import {GasMeter} from "./support/GasMeter.sol";
import {RollupV2} from "./support/RollupV2.sol";

/// @dev What a chain does once or seldom: deployment, roles, the timelock, upgrades. What a figure needs to have happened
/// before is done in `setUp`, so that the transaction that is measured is the first to touch what it touches.
contract GasOfGovernanceTest is GasMeter {
    bytes32 private constant SALT = keccak256("salt");

    /// @dev Chains whose owner has begun to hand over, and to change the delay of that.
    Rollup private handedOver;
    Rollup private delayed;
    Rollup private paused;
    ProxyAdmin private admin;
    bytes private upgrade;
    bytes private choose;
    bytes32 private role;

    function setUp() public override {
        super.setUp();
        handedOver = _deploy(_config());
        delayed = _deploy(_config());
        paused = _deploy(_config());
        vm.prank(OWNER);
        handedOver.beginDefaultAdminTransfer(BOB);
        vm.prank(OWNER);
        delayed.changeDefaultAdminDelay(OWNER_DELAY + 1);
        vm.prank(GUARDIAN);
        paused.pause();
        _post(1, 10);
        _commit(1, 1, 10);
        role = rollup.BATCHER_ROLE();
        admin = _proxyAdmin(address(rollup));
        upgrade = abi.encodeCall(
            ProxyAdmin.upgradeAndCall,
            (
                ITransparentUpgradeableProxy(address(rollup)),
                address(new RollupV2()),
                abi.encodeCall(RollupV2.initializeV2, (42))
            )
        );
        choose = abi.encodeCall(Rollup.chooseVerifier, (new ChallengeWindow(2 hours)));
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _both();
        vm.prank(OWNER);
        timelock.schedule(address(admin), 0, upgrade, 0, SALT, TIMELOCK_DELAY);
        vm.prank(OWNER);
        timelock.schedule(address(rollup), 0, choose, 0, SALT, TIMELOCK_DELAY);
        vm.prank(OWNER);
        timelock.scheduleBatch(targets, values, calls, 0, SALT, TIMELOCK_DELAY);
        vm.warp(START + OWNER_DELAY + 1);
    }

    // ------------------------------------------------------------- deployment

    function test_gas_of_deployment() public {
        address[] memory accounts = new address[](3);
        (accounts[0], accounts[1], accounts[2]) = (OWNER, BATCHER, COMMITTER);
        _measureCreation("Attestation", ", 3 members", abi.encode(accounts, 2, 10 minutes));
        _measureCreation("ChallengeWindow", "", abi.encode(WINDOW));
        _measureCreation("Rollup", "", "");
        _measureCreation("TokenBridge", "", "");
        accounts = new address[](1);
        accounts[0] = OWNER;
        bytes memory arguments = abi.encode(TIMELOCK_DELAY, accounts, accounts, address(0));
        _measureCreation("TimelockController", ", an owner", arguments);
        bytes memory call = abi.encodeCall(Rollup.initialize, (_config()));
        arguments = abi.encode(_implementation(address(rollup)), timelock, call);
        _measureCreation("TransparentUpgradeableProxy", ", and Rollup.initialize", arguments);
        call = abi.encodeCall(TokenBridge.initialize, (rollup));
        arguments = abi.encode(_implementation(address(bridge)), timelock, call);
        _measureCreation("TransparentUpgradeableProxy", ", and TokenBridge.initialize", arguments);
    }

    function test_gas_of_initialize() public {
        address bare = address(0xE1);
        vm.etch(bare, _implementation(address(rollup)).code);
        bytes memory input = abi.encodeCall(Rollup.initialize, (_config()));
        _measure("Rollup.initialize, without its proxy", OWNER, bare, 0, input);
        bare = address(0xE2);
        vm.etch(bare, _implementation(address(bridge)).code);
        input = abi.encodeCall(TokenBridge.initialize, (rollup));
        _measure("TokenBridge.initialize, without its proxy", OWNER, bare, 0, input);
    }

    // ------------------------------------------------------------------ roles

    function test_gas_of_a_role() public {
        bytes memory input = abi.encodeCall(IAccessControl.grantRole, (role, BOB));
        _measure("Rollup.grantRole", OWNER, address(rollup), 0, input);
        input = abi.encodeCall(IAccessControl.revokeRole, (role, BATCHER));
        _measure("Rollup.revokeRole", OWNER, address(rollup), 0, input);
        input = abi.encodeCall(IAccessControl.renounceRole, (rollup.COMMITTER_ROLE(), COMMITTER));
        _measure("Rollup.renounceRole", COMMITTER, address(rollup), 0, input);
    }

    function test_gas_of_the_handover_s_beginning() public {
        bytes memory input = abi.encodeCall(IAccessControlDefaultAdminRules.beginDefaultAdminTransfer, (BOB));
        _measure("Rollup.beginDefaultAdminTransfer", OWNER, address(rollup), 0, input);
    }

    function test_gas_of_the_handover_s_end() public {
        bytes memory input = abi.encodeCall(IAccessControlDefaultAdminRules.acceptDefaultAdminTransfer, ());
        _measure("Rollup.acceptDefaultAdminTransfer", BOB, address(handedOver), 0, input);
        vm.assertEq(handedOver.owner(), BOB);
    }

    function test_gas_of_a_handover_that_is_called_off() public {
        bytes memory input = abi.encodeCall(IAccessControlDefaultAdminRules.cancelDefaultAdminTransfer, ());
        _measure("Rollup.cancelDefaultAdminTransfer", OWNER, address(handedOver), 0, input);
    }

    function test_gas_of_another_delay_of_the_handover() public {
        bytes memory input = abi.encodeCall(IAccessControlDefaultAdminRules.changeDefaultAdminDelay, (1 days));
        _measure("Rollup.changeDefaultAdminDelay", OWNER, address(rollup), 0, input);
    }

    function test_gas_of_another_delay_that_is_called_off() public {
        bytes memory input = abi.encodeCall(IAccessControlDefaultAdminRules.rollbackDefaultAdminDelay, ());
        _measure("Rollup.rollbackDefaultAdminDelay", OWNER, address(delayed), 0, input);
    }

    function test_gas_of_a_pause() public {
        _measure("Rollup.pause", GUARDIAN, address(rollup), 0, abi.encodeCall(Rollup.pause, ()));
    }

    function test_gas_of_the_end_of_a_pause() public {
        _measure("Rollup.unpause", OWNER, address(paused), 0, abi.encodeCall(Rollup.unpause, ()));
        vm.assertFalse(paused.paused());
    }

    // ----------------------------------------------------------- the timelock

    function test_gas_of_a_proposal() public {
        bytes memory input =
            abi.encodeCall(TimelockController.schedule, (address(admin), 0, upgrade, 0, bytes32(0), TIMELOCK_DELAY));
        _measure("TimelockController.schedule, an upgrade", OWNER, address(timelock), 0, input);
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _both();
        input =
            abi.encodeCall(TimelockController.scheduleBatch, (targets, values, calls, 0, bytes32(0), TIMELOCK_DELAY));
        _measure("TimelockController.scheduleBatch, an upgrade and a verifier", OWNER, address(timelock), 0, input);
    }

    function test_gas_of_a_proposal_that_is_called_off() public {
        bytes32 id = timelock.hashOperation(address(admin), 0, upgrade, 0, SALT);
        bytes memory input = abi.encodeCall(TimelockController.cancel, (id));
        _measure("TimelockController.cancel", OWNER, address(timelock), 0, input);
    }

    function test_gas_of_an_upgrade() public {
        bytes memory input = abi.encodeCall(TimelockController.execute, (address(admin), 0, upgrade, 0, SALT));
        _measure("TimelockController.execute, an upgrade", OWNER, address(timelock), 0, input);
        vm.assertEq(RollupV2(payable(address(rollup))).added(), 42);
    }

    function test_gas_of_another_verifier() public {
        bytes memory input = abi.encodeCall(TimelockController.execute, (address(rollup), 0, choose, 0, SALT));
        _measure("TimelockController.execute, Rollup.chooseVerifier", OWNER, address(timelock), 0, input);
    }

    function test_gas_of_the_verifier_s_part() public {
        _measure("Rollup.chooseVerifier, by the timelock's call", address(timelock), address(rollup), 0, choose);
    }

    function test_gas_of_an_upgrade_with_another_verifier() public {
        (address[] memory targets, uint256[] memory values, bytes[] memory calls) = _both();
        bytes memory input = abi.encodeCall(TimelockController.executeBatch, (targets, values, calls, 0, SALT));
        _measure("TimelockController.executeBatch, an upgrade and a verifier", OWNER, address(timelock), 0, input);
    }

    function test_gas_of_the_timelock_s_own_affairs() public {
        bytes32 proposer = timelock.PROPOSER_ROLE();
        bytes32 canceller = timelock.CANCELLER_ROLE();
        address self = address(timelock);
        bytes memory input = abi.encodeCall(IAccessControl.grantRole, (proposer, BOB));
        _measure("TimelockController.grantRole, by its own call", self, self, 0, input);
        input = abi.encodeCall(IAccessControl.revokeRole, (proposer, OWNER));
        _measure("TimelockController.revokeRole, by its own call", self, self, 0, input);
        input = abi.encodeCall(IAccessControl.renounceRole, (canceller, OWNER));
        _measure("TimelockController.renounceRole", OWNER, self, 0, input);
        input = abi.encodeCall(TimelockController.updateDelay, (1 days));
        _measure("TimelockController.updateDelay, by its own call", self, self, 0, input);
    }

    /// @dev OpenZeppelin's timelock can hold assets; this one is given none.
    function test_gas_of_what_the_timelock_receives() public {
        address to = address(timelock);
        _measure("TimelockController.receive", ALICE, to, 1, "");
        bytes memory input = abi.encodeCall(IERC721Receiver.onERC721Received, (ALICE, ALICE, 1, ""));
        _measure("TimelockController.onERC721Received", ALICE, to, 0, input);
        input = abi.encodeCall(IERC1155Receiver.onERC1155Received, (ALICE, ALICE, 1, 1, ""));
        _measure("TimelockController.onERC1155Received", ALICE, to, 0, input);
        uint256[] memory one = new uint256[](1);
        input = abi.encodeCall(IERC1155Receiver.onERC1155BatchReceived, (ALICE, ALICE, one, one, ""));
        _measure("TimelockController.onERC1155BatchReceived, 1 kind", ALICE, to, 0, input);
    }

    // ------------------------------------------------------------ the proxies

    function test_gas_of_the_admin_s_part_of_an_upgrade() public {
        _measure("ProxyAdmin.upgradeAndCall, by the timelock's call", address(timelock), address(admin), 0, upgrade);
    }

    function test_gas_of_the_proxy_s_part_of_an_upgrade() public {
        bytes memory call = abi.encodeCall(RollupV2.initializeV2, (42));
        bytes memory input =
            abi.encodeCall(ITransparentUpgradeableProxy.upgradeToAndCall, (address(new RollupV2()), call));
        string memory name = "TransparentUpgradeableProxy.fallback, the admin's upgradeToAndCall";
        _measure(name, address(admin), address(rollup), 0, input);
    }

    function test_gas_of_another_owner_of_the_proxies() public {
        bytes memory input = abi.encodeCall(Ownable.transferOwnership, (BOB));
        _measure("ProxyAdmin.transferOwnership, by the timelock's call", address(timelock), address(admin), 0, input);
    }

    function test_gas_of_code_that_nobody_can_change_any_more() public {
        bytes memory input = abi.encodeCall(Ownable.renounceOwnership, ());
        _measure("ProxyAdmin.renounceOwnership, by the timelock's call", address(timelock), address(admin), 0, input);
    }

    // ---------------------------------------------------------------- helpers

    function _both() private view returns (address[] memory targets, uint256[] memory values, bytes[] memory calls) {
        (targets, values, calls) = (new address[](2), new uint256[](2), new bytes[](2));
        (targets[0], targets[1]) = (address(admin), address(rollup));
        (calls[0], calls[1]) = (upgrade, choose);
    }
}
