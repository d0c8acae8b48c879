// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {MessagePasser} from "../src/MessagePasser.sol";
import {Rollup} from "../src/Rollup.sol";
import {Vm} from "./support/Vm.sol";

/// @dev What is tested here is what is committed: forge and build.mjs compile alike.
contract ArtifactsTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function test_the_artifacts_are_the_code_under_test() public view {
        vm.assertEq(vm.getCode("artifacts/Rollup.json"), type(Rollup).creationCode);
        vm.assertEq(vm.getCode("artifacts/MessagePasser.json"), type(MessagePasser).creationCode);
        vm.assertEq(vm.getDeployedCode("artifacts/MessagePasser.json"), type(MessagePasser).runtimeCode);
    }

    function test_the_contracts_fit_the_size_limit() public view {
        vm.assertLe(vm.getDeployedCode("artifacts/Rollup.json").length, 24_576, "EIP-170");
    }
}
