// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../../src/Rollup.sol";
import {TokenBridge} from "../../src/TokenBridge.sol";

/// @dev What an upgrade could bring: a slot at the end, set by its own initializer.
contract RollupV2 is Rollup {
    uint256 public added;

    function initializeV2(uint256 added_) external reinitializer(2) {
        added = added_;
    }
}

contract TokenBridgeV2 is TokenBridge {
    uint256 public constant ADDED = 7;
}
