// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// @title AddressAlias
/// @notice How contracts of L1 are called on L2: somebody else may control the account of the same address there.
library AddressAlias {
    uint160 private constant OFFSET = uint160(0x1111000000000000000000000000000000001111);

    /// @notice The sender on L2 of what this contract of L1 deposits.
    function ofContract(address account) internal pure returns (address) {
        unchecked {
            return address(uint160(account) + OFFSET);
        }
    }
}
