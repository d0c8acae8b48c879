// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// @title Predeploys
/// @notice The contracts that are on L2 from its genesis on.
library Predeploys {
    /// @notice The bridge for tokens. L2 knows the bridge on L1 by the same address, wherever it is: the rollup contract
    /// makes it the sender of what that bridge deposits, and sends messages for it there.
    address internal constant TOKEN_BRIDGE = 0x4200000000000000000000000000000000000010;
    /// @notice The code of the tokens that the bridge makes.
    address internal constant BRIDGED_TOKEN = 0x4200000000000000000000000000000000000012;
    /// @notice Records messages to L1.
    address internal constant MESSAGE_PASSER = 0x4200000000000000000000000000000000000016;
}
