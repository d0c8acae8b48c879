// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {
    ERC20PermitUpgradeable
} from "@openzeppelin/contracts-upgradeable/token/ERC20/extensions/ERC20PermitUpgradeable.sol";
import {Predeploys} from "./Predeploys.sol";

/// @title BridgedToken
/// @notice The counterpart of a token of L1: an ERC-20 token with permits (EIP-2612), of which the bridge makes as many as L1
/// holds. Its runtime bytecode is part of the L2 genesis, at 0x4200000000000000000000000000000000000012; tokens are
/// clones of it (ERC-1167).
contract BridgedToken is ERC20PermitUpgradeable {
    /// @notice The token's address on L1.
    address public l1Token;

    uint8 private _decimals;

    /// @notice Only the bridge makes and takes tokens.
    error NotTheBridge(address sender);

    modifier onlyBridge() {
        if (msg.sender != Predeploys.TOKEN_BRIDGE) revert NotTheBridge(msg.sender);
        _;
    }

    /// @notice Says what the token is, once.
    function initialize(address l1Token_, string calldata name_, string calldata symbol_, uint8 decimals_)
        external
        onlyBridge
        initializer
    {
        __ERC20_init(name_, symbol_);
        __ERC20Permit_init(name_);
        l1Token = l1Token_;
        _decimals = decimals_;
    }

    /// @notice Makes tokens.
    function mint(address to, uint256 amount) external onlyBridge {
        _mint(to, amount);
    }

    /// @notice Takes tokens.
    function burn(address from, uint256 amount) external onlyBridge {
        _burn(from, amount);
    }

    /// @notice Decimal places in which wallets show amounts.
    function decimals() public view override returns (uint8) {
        return _decimals;
    }
}
