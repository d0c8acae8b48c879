// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// @title MessagePasser
/// @notice Records the messages that L2 sends to L1. Its runtime bytecode is part of the L2 genesis, at
/// 0x4200000000000000000000000000000000000016; it has no constructor and starts with empty storage.
/// @dev The slots below are part of the protocol. Ether that is sent along stays here: it leaves L2, and L1 releases as
/// much of what it holds.
contract MessagePasser {
    /// @notice L1 gas that a plain transfer gives its message's call.
    uint64 public constant WITHDRAWAL_GAS = 100_000;
    /// @notice The most L1 gas that a message may ask for: it has to fit one transaction there (EIP-7825).
    uint64 public constant MAX_MESSAGE_GAS = 12_000_000;
    /// @notice The most bytes of data in one message: they are calldata on L1.
    uint256 public constant MAX_MESSAGE_DATA = 64 * 1024;

    /// @notice Whether a message was sent, by id (slot 0: `sent[id]` lies at keccak256(abi.encode(id, 0))).
    mapping(bytes32 id => bool) public sent;

    /// @notice Number of messages sent, which is the nonce of the next one (slot 1).
    uint64 public nonce;

    /// @notice A message was sent.
    /// @param nonce Number of messages sent before it.
    /// @param sender Who sent it on L2.
    /// @param target Whom L1 calls with it.
    /// @param value Wei that L1 sends along.
    /// @param gasLimit Gas that the call has on L1, at least.
    /// @param data Input of the call.
    /// @param id keccak256(abi.encode(nonce, sender, target, value, gasLimit, data)).
    event MessageSent(
        uint64 indexed nonce,
        address indexed sender,
        address indexed target,
        uint256 value,
        uint64 gasLimit,
        bytes data,
        bytes32 id
    );

    /// @notice A contract has to call `sendMessage` and name the target: nobody may hold its address on L1.
    error PlainTransferFromContract(address sender);
    /// @notice No transaction on L1 could deliver the message.
    error MessageGasTooHigh(uint64 gasLimit, uint64 limit);
    /// @notice No transaction on L1 could deliver the message.
    error MessageDataTooLarge(uint256 length, uint256 limit);

    /// @notice A plain transfer from an account withdraws ether to the same account on L1.
    receive() external payable {
        if (msg.sender != tx.origin) revert PlainTransferFromContract(msg.sender);
        _send(msg.sender, WITHDRAWAL_GAS, "");
    }

    /// @notice Sends a message to L1, with the ether sent along as its value.
    /// @param target Whom L1 calls with it.
    /// @param gasLimit Gas that the call has on L1, at least.
    /// @param data Input of the call.
    /// @return id Under which the message is recorded; unique, since it covers the nonce.
    function sendMessage(address target, uint64 gasLimit, bytes calldata data) external payable returns (bytes32 id) {
        if (gasLimit > MAX_MESSAGE_GAS) revert MessageGasTooHigh(gasLimit, MAX_MESSAGE_GAS);
        if (data.length > MAX_MESSAGE_DATA) revert MessageDataTooLarge(data.length, MAX_MESSAGE_DATA);
        return _send(target, gasLimit, data);
    }

    function _send(address target, uint64 gasLimit, bytes memory data) private returns (bytes32 id) {
        uint64 current = nonce;
        id = keccak256(abi.encode(current, msg.sender, target, msg.value, gasLimit, data));
        sent[id] = true;
        nonce = current + 1;
        emit MessageSent(current, msg.sender, target, msg.value, gasLimit, data, id);
    }
}
