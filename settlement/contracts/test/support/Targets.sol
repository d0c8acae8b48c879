// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Rollup} from "../../src/Rollup.sol";

/// @dev Notes what it is called with; refuses while it is told to.
contract Recorder {
    error Refused();

    Rollup private immutable ROLLUP;

    bool public refuses;
    uint256 public calls;
    uint256 public gasAtEntry;
    uint256 public lastValue;
    address public lastCaller;
    address public lastSender;
    bytes public lastData;

    constructor(Rollup rollup) {
        ROLLUP = rollup;
    }

    function refuse(bool refuses_) external {
        refuses = refuses_;
    }

    receive() external payable {
        _record(gasleft());
    }

    fallback() external payable {
        _record(gasleft());
    }

    function _record(uint256 left) private {
        if (refuses) revert Refused();
        calls += 1;
        gasAtEntry = left;
        lastValue = msg.value;
        lastCaller = msg.sender;
        lastSender = ROLLUP.messageSender();
        lastData = msg.data;
    }
}

/// @dev Notes the gas alone that it got, and has to get no more than that done.
contract GasMeter {
    uint256 public gasAtEntry;

    receive() external payable {
        gasAtEntry = gasleft();
    }

    fallback() external payable {
        gasAtEntry = gasleft();
    }
}

/// @dev When paid, calls the rollup in its turn, and goes on whatever comes of it, or not.
contract Reentrant {
    error CalledBackInVain(bytes reason);

    Rollup private immutable ROLLUP;

    bytes private _call;
    uint256 private _value;
    bool private _insists;

    uint256 public calls;
    bool public succeeded;
    bytes public answer;

    constructor(Rollup rollup) {
        ROLLUP = rollup;
    }

    function callBack(bytes calldata call, uint256 value, bool insists) external {
        _call = call;
        _value = value;
        _insists = insists;
    }

    receive() external payable {
        calls += 1;
        (succeeded, answer) = address(ROLLUP).call{value: _value}(_call);
        if (_insists && !succeeded) revert CalledBackInVain(answer);
    }
}

/// @dev Answers with as many zero bytes as it is asked for, as a result or as the reason of its failure.
contract Bomb {
    receive() external payable {}

    fallback(bytes calldata input) external payable returns (bytes memory) {
        (uint256 length, bool fails) = abi.decode(input, (uint256, bool));
        if (fails) {
            assembly ("memory-safe") {
                revert(mload(0x40), length)
            }
        }
        assembly ("memory-safe") {
            return(mload(0x40), length)
        }
    }
}

/// @dev Uses up all the gas that it gets.
contract Burner {
    receive() external payable {
        assembly ("memory-safe") {
            invalid()
        }
    }

    fallback() external payable {
        assembly ("memory-safe") {
            invalid()
        }
    }
}
