// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {BridgeTest} from "./BridgeTest.sol";
import {PlainToken} from "./Tokens.sol";

/// @dev Gas of whole transactions, base cost, calldata and the proxy included. The figures are kept in snapshots/gas.json,
/// and check.sh fails when they change, or when a function has none. Refunds are not taken off.
///
/// A figure's name is the contract's and the function's ("receive" and "constructor" too), and after a comma what it is
/// that was measured.
abstract contract GasMeter is BridgeTest {
    PlainToken internal token;

    function setUp() public virtual override {
        super.setUp();
        token = new PlainToken("Token", "TOK", 18);
        token.mint(ALICE, 1_000_000);
    }

    /// @dev The gas of a transaction from `sender` with this value and input.
    function _measure(string memory name, address sender, address target, uint256 value, bytes memory input)
        internal
        returns (uint256 gas)
    {
        _cool(target);
        vm.prank(sender, sender);
        (bool done,) = target.call{value: value}(input);
        gas = vm.lastCallGas().gasTotalUsed + 21_000 + _calldataGas(input);
        vm.assertTrue(done, name);
        vm.snapshotValue("gas", name, gas);
    }

    /// @dev The gas of a transaction that makes a contract of one of the artifacts.
    function _measureCreation(string memory artifact, string memory variant, bytes memory arguments) internal {
        bytes memory input = bytes.concat(vm.getCode(string.concat("artifacts/", artifact, ".json")), arguments);
        _cool(address(0));
        address made;
        uint256 used;
        assembly ("memory-safe") {
            let before := gas()
            made := create(0, add(input, 0x20), mload(input))
            used := sub(before, gas())
        }
        string memory name = string.concat(artifact, ".constructor", variant);
        vm.assertTrue(made != address(0), name);
        vm.snapshotValue("gas", name, used + 21_000 + _calldataGas(input));
    }

    /// @dev Nothing is warm when a transaction begins.
    function _cool(address target) private {
        address[14] memory everything = [
            target,
            address(rollup),
            _implementation(address(rollup)),
            address(challengeWindow),
            address(bridge),
            _implementation(address(bridge)),
            address(timelock),
            address(_proxyAdmin(address(rollup))),
            address(token),
            BOB,
            L2_BRIDGE,
            L2_TOKEN_CODE,
            L2_PASSER,
            address(l2Bridge.tokenOf(address(token)))
        ];
        for (uint256 i = 0; i < everything.length; ++i) {
            vm.cool(everything[i]);
        }
    }

    function _calldataGas(bytes memory input) private pure returns (uint256 gas) {
        for (uint256 i = 0; i < input.length; ++i) {
            gas += input[i] == 0 ? 4 : 16;
        }
    }
}
