// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {L2TokenBridge} from "./L2TokenBridge.sol";
import {Predeploys} from "./Predeploys.sol";
import {Rollup} from "./Rollup.sol";

/// @title TokenBridge
/// @notice Holds the ERC-20 tokens of L1 that are on L2, where `L2TokenBridge` has made as many of their counterparts.
/// @dev Lives behind a proxy whose code the timelock alone can change. A token whose balances change by themselves
/// (rebasing) does not fit: what it grows by here belongs to nobody, what it shrinks by the last to leave lack.
contract TokenBridge is Initializable, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice L2 gas of a deposit: enough to make the token's counterpart.
    uint64 public constant DEPOSIT_GAS = 800_000;
    /// @notice The most bytes of a token's name or symbol that L2 is told.
    uint256 public constant MAX_METADATA = 64;

    /// @notice The chain that this bridge belongs to.
    Rollup public rollup;

    /// @notice How much of a token is on L2, and held here.
    mapping(IERC20 token => uint256 amount) public deposited;

    /// @notice Tokens are on their way to L2.
    event DepositStarted(IERC20 indexed token, address indexed from, address indexed to, uint256 amount);
    /// @notice Tokens are back from L2.
    event WithdrawalFinished(IERC20 indexed token, address indexed from, address indexed to, uint256 amount);

    /// @notice A deposit has to name a recipient: address zero can not be one.
    error RecipientZero();
    /// @notice Nothing has arrived here.
    error NothingDeposited();
    /// @notice The address holds no contract, so it is no token.
    error NotAToken(address token);
    /// @notice Only the chain pays out, and only when the bridge on L2 says so.
    error NotTheBridge(address sender);

    /// @notice The bridge does not pay itself.
    error RecipientIsTheBridge();
    /// @notice The chain that the bridge belongs to is zero.
    error RollupZero();

    /// @dev The code behind the proxy: never used by itself.
    constructor() {
        _disableInitializers();
    }

    /// @notice Says which chain the bridge belongs to. Called once, by the proxy's constructor.
    function initialize(Rollup rollup_) external initializer {
        if (address(rollup_) == address(0)) revert RollupZero();
        rollup = rollup_;
    }

    /// @notice Takes tokens, which have to be approved, and gives as many of their counterpart on L2.
    /// @param token A token on this L1.
    /// @param to Recipient on L2.
    /// @param amount In the token's units. If the token takes a fee, what arrives here counts.
    function deposit(IERC20 token, address to, uint256 amount) external nonReentrant {
        if (to == address(0)) revert RecipientZero();
        if (address(token).code.length == 0) revert NotAToken(address(token));
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received == 0) revert NothingDeposited();
        deposited[token] += received;
        bytes memory call =
            abi.encodeCall(L2TokenBridge.finishDeposit, (address(token), msg.sender, to, received, _metadata(token)));
        rollup.depositTransaction(Predeploys.TOKEN_BRIDGE, DEPOSIT_GAS, call);
        emit DepositStarted(token, msg.sender, to, received);
    }

    /// @notice Pays out what was given back on L2. Called by the chain, with a message of the bridge on L2.
    function finishWithdrawal(IERC20 token, address from, address to, uint256 amount) external nonReentrant {
        if (msg.sender != address(rollup) || rollup.messageSender() != Predeploys.TOKEN_BRIDGE) {
            revert NotTheBridge(msg.sender);
        }
        // It would leave the books, and stay.
        if (to == address(this)) revert RecipientIsTheBridge();
        deposited[token] -= amount;
        token.safeTransfer(to, amount);
        emit WithdrawalFinished(token, from, to, amount);
    }

    /// @dev What the token says of itself; of a token that says nothing, nothing and 18 decimals.
    function _metadata(IERC20 token) private view returns (L2TokenBridge.Metadata memory) {
        return L2TokenBridge.Metadata({
            name: _text(token, IERC20Metadata.name.selector),
            symbol: _text(token, IERC20Metadata.symbol.selector),
            decimals: _decimals(token)
        });
    }

    /// @dev A string of a token, cut at `MAX_METADATA`. Old tokens answer with 32 bytes instead of a string.
    function _text(IERC20 token, bytes4 selector) private view returns (string memory) {
        (bool success, bytes memory answer) = _ask(token, selector);
        if (!success || answer.length < 32) return "";
        bytes memory text;
        uint256 offset = uint256(bytes32(answer));
        if (answer.length == 32) {
            text = _untilZero(answer);
        } else if (offset == 32 && answer.length >= 64) {
            uint256 length;
            assembly ("memory-safe") {
                length := mload(add(answer, 0x40))
            }
            // A long one has been cut already.
            text = _slice(answer, 64, length > answer.length - 64 ? answer.length - 64 : length);
        }
        return string(_slice(text, 0, text.length));
    }

    function _decimals(IERC20 token) private view returns (uint8) {
        (bool success, bytes memory answer) = _ask(token, IERC20Metadata.decimals.selector);
        if (!success || answer.length < 32) return 18;
        uint256 decimals = uint256(bytes32(answer));
        return decimals > type(uint8).max ? 18 : uint8(decimals);
    }

    /// @dev At most 256 bytes of an answer are looked at, and the token gets little gas for it.
    function _ask(IERC20 token, bytes4 selector) private view returns (bool success, bytes memory answer) {
        answer = new bytes(256);
        bytes memory question = abi.encodePacked(selector);
        uint256 length;
        assembly ("memory-safe") {
            success := staticcall(100000, token, add(question, 0x20), mload(question), add(answer, 0x20), 256)
            length := returndatasize()
            if gt(length, 256) { length := 256 }
            mstore(answer, length)
        }
    }

    function _untilZero(bytes memory word) private pure returns (bytes memory) {
        uint256 length = 0;
        while (length < 32 && word[length] != 0) ++length;
        return _slice(word, 0, length);
    }

    function _slice(bytes memory from, uint256 start, uint256 length) private pure returns (bytes memory part) {
        if (length > MAX_METADATA) length = MAX_METADATA;
        part = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            part[i] = from[start + i];
        }
    }
}
