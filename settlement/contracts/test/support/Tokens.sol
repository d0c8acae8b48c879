// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev A token by the book.
contract PlainToken is ERC20 {
    uint8 private immutable DECIMALS;

    constructor(string memory name, string memory symbol, uint8 decimals_) ERC20(name, symbol) {
        DECIMALS = decimals_;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public view override returns (uint8) {
        return DECIMALS;
    }
}

/// @dev Keeps a tenth of what is moved.
contract FeeToken is PlainToken {
    constructor() PlainToken("Fee", "FEE", 18) {}

    function _update(address from, address to, uint256 amount) internal override {
        if (from == address(0) || to == address(0)) return super._update(from, to, amount);
        uint256 fee = amount / 10;
        super._update(from, address(0xFEE), fee);
        super._update(from, to, amount - fee);
    }
}

/// @dev Pays to nobody on its list.
contract BlocklistToken is PlainToken {
    error Blocked(address account);

    mapping(address account => bool) private _blocked;

    constructor() PlainToken("Blocklist", "BLK", 6) {}

    function setBlocked(address account, bool blocked) external {
        _blocked[account] = blocked;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (_blocked[to]) revert Blocked(to);
        super._update(from, to, amount);
    }
}

/// @dev Calls who pays and who is paid, as ERC-777 does.
contract HookToken is PlainToken {
    mapping(address account => Hooked) private _hooks;

    constructor() PlainToken("Hook", "HOOK", 18) {}

    function register(Hooked hook) external {
        _hooks[msg.sender] = hook;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (address(_hooks[from]) != address(0)) _hooks[from].beforeSend();
        super._update(from, to, amount);
        if (address(_hooks[to]) != address(0)) _hooks[to].afterReceive();
    }
}

interface Hooked {
    function beforeSend() external;
    function afterReceive() external;
}

/// @dev An account that tries something else in the middle of each payment.
contract Intruder is Hooked {
    address private _target;
    bytes private _call;

    uint256 public tries;
    bool public succeeded;
    bytes public answer;

    function register(HookToken token) external {
        token.register(this);
    }

    function intrude(address target, bytes calldata call) external {
        _target = target;
        _call = call;
    }

    function act(address target, bytes calldata call) external {
        (bool done, bytes memory reason) = target.call(call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(reason, 0x20), mload(reason))
            }
        }
    }

    function beforeSend() external {
        _try();
    }

    function afterReceive() external {
        _try();
    }

    function _try() private {
        if (_target == address(0)) return;
        tries += 1;
        (succeeded, answer) = _target.call(_call);
    }
}

/// @dev Answers nothing, and wants an allowance taken back before it grants another, as old tokens do (USDT).
contract SilentToken {
    string public name = "Silent Dollar";
    string public symbol = "USDS";
    uint8 public decimals = 6;

    mapping(address account => uint256) public balanceOf;
    mapping(address account => mapping(address spender => uint256)) public allowance;

    error TooLittle();
    error AllowanceStands(uint256 allowance);

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        uint256 standing = allowance[msg.sender][spender];
        if (amount != 0 && standing != 0) revert AllowanceStands(standing);
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        if (allowance[from][msg.sender] < amount) revert TooLittle();
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        if (balanceOf[from] < amount) revert TooLittle();
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @dev Answers false instead of reverting, and takes nothing.
contract FalseToken {
    function balanceOf(address) external pure returns (uint256) {
        return 0;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return false;
    }
}

/// @dev A token that says of itself what the test wants, in any form.
contract OddToken {
    enum Manner {
        Answers,
        Reverts,
        Burns,
        Writes
    }

    mapping(address account => uint256) public balanceOf;
    mapping(bytes4 question => bytes) private _answers;
    mapping(bytes4 question => Manner) private _manners;

    function set(string calldata question, Manner manner, bytes calldata answer) external {
        bytes4 selector = bytes4(keccak256(bytes(question)));
        _answers[selector] = answer;
        _manners[selector] = manner;
    }

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address, uint256) external pure returns (bool) {
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
        return true;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        return true;
    }

    fallback() external {
        Manner manner = _manners[msg.sig];
        bytes memory answer = _answers[msg.sig];
        if (manner == Manner.Writes) balanceOf[address(1)] += 1;
        assembly ("memory-safe") {
            if eq(manner, 1) { revert(add(answer, 0x20), mload(answer)) }
            if eq(manner, 2) { invalid() }
            // A single byte stands for many zero bytes, from memory that nobody has written.
            if eq(mload(answer), 1) { return(0x10000, 20000) }
            return(add(answer, 0x20), mload(answer))
        }
    }
}
