// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {AddressAlias} from "./AddressAlias.sol";
import {BridgedToken} from "./BridgedToken.sol";
import {MessagePasser} from "./MessagePasser.sol";
import {Predeploys} from "./Predeploys.sol";

/// @title L2TokenBridge
/// @notice Makes the counterparts of L1's tokens, and takes them back. Its runtime bytecode is part of the L2 genesis, at
/// 0x4200000000000000000000000000000000000010; it has no constructor and starts with empty storage.
contract L2TokenBridge {
    /// @notice What a token says of itself.
    struct Metadata {
        string name;
        string symbol;
        uint8 decimals;
    }

    /// @notice L1 gas of the call that pays out.
    uint64 public constant WITHDRAWAL_GAS = 300_000;

    /// @notice Tokens have arrived from L1.
    event DepositFinished(address indexed l1Token, address indexed from, address indexed to, uint256 amount);
    /// @notice Tokens are on their way to L1.
    event WithdrawalStarted(address indexed l1Token, address indexed from, address indexed to, uint256 amount);

    /// @notice Only the bridge on L1 brings tokens.
    error NotTheBridge(address sender);
    /// @notice A withdrawal has to name a recipient.
    error RecipientZero();
    /// @notice This token of L1 has never been on L2.
    error TokenUnknown(address l1Token);

    /// @notice Makes tokens for those that the bridge on L1 has taken. Called by its deposits.
    function finishDeposit(address l1Token, address from, address to, uint256 amount, Metadata calldata metadata)
        external
    {
        if (msg.sender != AddressAlias.ofContract(Predeploys.TOKEN_BRIDGE)) revert NotTheBridge(msg.sender);
        BridgedToken token = tokenOf(l1Token);
        if (address(token).code.length == 0) {
            Clones.cloneDeterministic(Predeploys.BRIDGED_TOKEN, _salt(l1Token));
            token.initialize(l1Token, metadata.name, metadata.symbol, metadata.decimals);
        }
        token.mint(to, amount);
        emit DepositFinished(l1Token, from, to, amount);
    }

    /// @notice Takes tokens of the caller, for which no approval is needed, and sends L1 the message that pays out.
    /// @param l1Token The token's address on L1.
    /// @param to Recipient on L1.
    /// @param amount In the token's units.
    /// @return id The message's id.
    function withdraw(address l1Token, address to, uint256 amount) external returns (bytes32 id) {
        if (to == address(0)) revert RecipientZero();
        BridgedToken token = tokenOf(l1Token);
        if (address(token).code.length == 0) revert TokenUnknown(l1Token);
        token.burn(msg.sender, amount);
        emit WithdrawalStarted(l1Token, msg.sender, to, amount);
        // TokenBridge.finishWithdrawal, whose sources this contract does not need.
        bytes memory call = abi.encodeWithSignature(
            "finishWithdrawal(address,address,address,uint256)", l1Token, msg.sender, to, amount
        );
        return
            MessagePasser(payable(Predeploys.MESSAGE_PASSER)).sendMessage(Predeploys.TOKEN_BRIDGE, WITHDRAWAL_GAS, call);
    }

    /// @notice Where the counterpart of a token of L1 is, or will be.
    function tokenOf(address l1Token) public view returns (BridgedToken) {
        return BridgedToken(Clones.predictDeterministicAddress(Predeploys.BRIDGED_TOKEN, _salt(l1Token), address(this)));
    }

    function _salt(address l1Token) private pure returns (bytes32) {
        return bytes32(uint256(uint160(l1Token)));
    }
}
