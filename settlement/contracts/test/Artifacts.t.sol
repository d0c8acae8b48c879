// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {TransparentUpgradeableProxy} from "@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol";
import {Attestation} from "../src/Attestation.sol";
import {BridgedToken} from "../src/BridgedToken.sol";
import {ChallengeWindow} from "../src/ChallengeWindow.sol";
import {L2TokenBridge} from "../src/L2TokenBridge.sol";
import {MessagePasser} from "../src/MessagePasser.sol";
import {Rollup} from "../src/Rollup.sol";
import {TokenBridge} from "../src/TokenBridge.sol";
import {Vm} from "./support/Vm.sol";

/// @dev What is tested here is what is committed: forge and build.mjs compile alike.
contract ArtifactsTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 private constant CODE_LIMIT = 24_576;

    function test_the_artifacts_are_the_code_under_test() public view {
        string[9] memory names = _names();
        bytes[9] memory codes = [
            type(Attestation).creationCode,
            type(BridgedToken).creationCode,
            type(ChallengeWindow).creationCode,
            type(L2TokenBridge).creationCode,
            type(MessagePasser).creationCode,
            type(Rollup).creationCode,
            type(TimelockController).creationCode,
            type(TokenBridge).creationCode,
            type(TransparentUpgradeableProxy).creationCode
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            vm.assertEq(vm.getCode(_path(names[i])), codes[i], names[i]);
        }
    }

    /// @dev These are in the genesis of L2 as they are; others get their immutables when they are deployed.
    function test_the_predeploys_are_the_code_under_test() public view {
        vm.assertEq(vm.getDeployedCode(_path("BridgedToken")), type(BridgedToken).runtimeCode);
        vm.assertEq(vm.getDeployedCode(_path("L2TokenBridge")), type(L2TokenBridge).runtimeCode);
        vm.assertEq(vm.getDeployedCode(_path("MessagePasser")), type(MessagePasser).runtimeCode);
    }

    function test_no_artifact_is_left_out() public view {
        vm.assertEq(vm.readDir("artifacts").length, _names().length);
    }

    function test_the_contracts_fit_the_size_limits() public view {
        string[9] memory names = _names();
        for (uint256 i = 0; i < names.length; ++i) {
            vm.assertLe(vm.getDeployedCode(_path(names[i])).length, CODE_LIMIT, string.concat("EIP-170: ", names[i]));
            vm.assertLe(vm.getCode(_path(names[i])).length, 2 * CODE_LIMIT, string.concat("EIP-3860: ", names[i]));
        }
    }

    function _names() private pure returns (string[9] memory) {
        return [
            "Attestation",
            "BridgedToken",
            "ChallengeWindow",
            "L2TokenBridge",
            "MessagePasser",
            "Rollup",
            "TimelockController",
            "TokenBridge",
            "TransparentUpgradeableProxy"
        ];
    }

    function _path(string memory name) private pure returns (string memory) {
        return string.concat("artifacts/", name, ".json");
    }
}
