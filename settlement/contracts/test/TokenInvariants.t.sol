// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {BridgedToken} from "../src/BridgedToken.sol";
import {L2TokenBridge} from "../src/L2TokenBridge.sol";
import {Rollup} from "../src/Rollup.sol";
import {Message} from "../src/Types.sol";
import {BridgeTest} from "./support/BridgeTest.sol";
import {BlocklistToken, FeeToken, PlainToken} from "./support/Tokens.sol";
import {Vm} from "./support/Vm.sol";

/// @dev People who move tokens to L2 and back, in any order and with pauses in between: deposits wait for L2, withdrawals
/// for a commitment, and some of them fail for a time.
contract TokenActor is BridgeTest {
    PlainToken[3] private _tokens;
    address[3] private _people = [address(0xE1), address(0xE2), address(0xE3)];

    struct Pending {
        uint256 token;
        uint256 amount;
        Deposit deposit;
    }

    struct Withdrawal {
        uint256 token;
        uint256 amount;
        Message message;
    }

    Pending[] private _pending;
    Withdrawal[] private _sent;
    Withdrawal[] private _failed;

    /// @dev By token: what is on its way to L2, and what is on its way back.
    uint256[3] public arriving;
    uint256[3] public leaving;

    constructor(PlainToken[3] memory tokens) {
        setUp();
        _tokens = tokens;
        for (uint256 i = 0; i < 3; ++i) {
            for (uint256 j = 0; j < 3; ++j) {
                _tokens[i].mint(_people[j], type(uint96).max);
            }
        }
    }

    function bridgeOf() external view returns (address) {
        return address(bridge);
    }

    function deposit(uint8 tokenSeed, uint8 fromSeed, uint8 toSeed, uint96 amount) external {
        uint256 token = tokenSeed % 3;
        address from = _people[fromSeed % 3];
        uint256 held = _tokens[token].balanceOf(from);
        if (held == 0) return;
        uint256 before = bridge.deposited(_tokens[token]);
        Deposit memory made = _deposit(address(_tokens[token]), from, _people[toSeed % 3], _between(amount, 1, held));
        uint256 taken = bridge.deposited(_tokens[token]) - before;
        arriving[token] += taken;
        _pending.push(Pending(token, taken, made));
    }

    /// @dev Somebody gives the bridge tokens without depositing them.
    function give(uint8 tokenSeed, uint8 fromSeed, uint16 amount) external {
        uint256 token = tokenSeed % 3;
        uint256 held = _tokens[token].balanceOf(_people[fromSeed % 3]);
        vm.prank(_people[fromSeed % 3]);
        _tokens[token].transfer(address(bridge), amount < held ? amount : held);
    }

    /// @dev L2 executes the deposits in their order.
    function execute(uint8 count) external {
        uint256 done = 0;
        while (done < count % 4 && done < _pending.length) {
            Pending memory next = _pending[done++];
            (bool executed,) = _execute(next.deposit);
            vm.assertTrue(executed);
            arriving[next.token] -= next.amount;
        }
        for (uint256 i = done; i < _pending.length; ++i) {
            _pending[i - done] = _pending[i];
        }
        for (uint256 i = 0; i < done; ++i) {
            _pending.pop();
        }
    }

    function transferOnL2(uint8 tokenSeed, uint8 fromSeed, uint8 toSeed, uint256 amount) external {
        BridgedToken token = l2Bridge.tokenOf(address(_tokens[tokenSeed % 3]));
        if (address(token).code.length == 0) return;
        amount = _between(amount, 0, token.balanceOf(_people[fromSeed % 3]));
        vm.prank(_people[fromSeed % 3]);
        token.transfer(_people[toSeed % 3], amount);
    }

    function withdraw(uint8 tokenSeed, uint8 fromSeed, uint8 toSeed, uint256 amount) external {
        uint256 token = tokenSeed % 3;
        address from = _people[fromSeed % 3];
        BridgedToken bridged = l2Bridge.tokenOf(address(_tokens[token]));
        if (address(bridged).code.length == 0) return;
        amount = _between(amount, 0, bridged.balanceOf(from));
        // Some can never be delivered.
        address to = toSeed % 16 == 15 ? address(bridge) : _people[toSeed % 3];
        Message memory message = _withdraw(address(_tokens[token]), from, to, amount);
        leaving[token] += amount;
        _sent.push(Withdrawal(token, amount, message));
    }

    function deliver(uint256 seed) external {
        if (_sent.length == 0) return;
        uint256 index = seed % _sent.length;
        Withdrawal memory withdrawal = _sent[index];
        _sent[index] = _sent[_sent.length - 1];
        _sent.pop();
        if (_deliver(withdrawal.message)) leaving[withdrawal.token] -= withdrawal.amount;
        else _failed.push(withdrawal);
    }

    function retry(uint256 seed) external {
        if (_failed.length == 0) return;
        uint256 index = seed % _failed.length;
        Withdrawal memory withdrawal = _failed[index];
        (bool done,) = address(rollup).call(abi.encodeCall(Rollup.retryMessage, (withdrawal.message)));
        if (!done) return;
        leaving[withdrawal.token] -= withdrawal.amount;
        _failed[index] = _failed[_failed.length - 1];
        _failed.pop();
    }

    function block_(uint8 seed, bool blocked) external {
        BlocklistToken(address(_tokens[2])).setBlocked(_people[seed % 3], blocked);
    }

    /// @dev A withdrawal that L2's bridge did not send.
    function forge_(uint8 tokenSeed, uint96 amount, bool direct) external {
        Message memory message = _message(type(uint64).max - uint64(amount), L2_BRIDGE, 0);
        message.target = direct ? address(bridge) : L2_BRIDGE;
        message.gasLimit = 300_000;
        message.data = abi.encodeWithSignature(
            "finishWithdrawal(address,address,address,uint256)",
            _tokens[tokenSeed % 3],
            _people[0],
            _people[0],
            uint256(amount)
        );
        if (rollup.messageStatus(_id(message)) != Rollup.MessageStatus.None) return;
        vm.assertFalse(_deliver(message));
    }
}

contract TokenInvariantsTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    L2TokenBridge private constant L2 = L2TokenBridge(0x4200000000000000000000000000000000000010);

    TokenActor private actor;
    PlainToken[3] private tokens;

    function setUp() public {
        tokens = [
            new PlainToken("Plain", "PLN", 6),
            PlainToken(address(new FeeToken())),
            PlainToken(address(new BlocklistToken()))
        ];
        actor = new TokenActor(tokens);
    }

    /// @dev Read by forge: what it calls at random.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    /// @dev Read by forge: what the actor inherits is not part of it.
    function targetSelectors() external view returns (Selectors[] memory targets) {
        targets = new Selectors[](1);
        targets[0].account = address(actor);
        targets[0].selectors = new bytes4[](9);
        targets[0].selectors[0] = TokenActor.deposit.selector;
        targets[0].selectors[1] = TokenActor.give.selector;
        targets[0].selectors[2] = TokenActor.execute.selector;
        targets[0].selectors[3] = TokenActor.transferOnL2.selector;
        targets[0].selectors[4] = TokenActor.withdraw.selector;
        targets[0].selectors[5] = TokenActor.deliver.selector;
        targets[0].selectors[6] = TokenActor.retry.selector;
        targets[0].selectors[7] = TokenActor.block_.selector;
        targets[0].selectors[8] = TokenActor.forge_.selector;
    }

    struct Selectors {
        address account;
        bytes4[] selectors;
    }

    function invariant_every_token_on_L2_is_held_on_L1() public view {
        for (uint256 i = 0; i < tokens.length; ++i) {
            uint256 deposited = _deposited(i);
            vm.assertGe(tokens[i].balanceOf(actor.bridgeOf()), deposited);
            vm.assertGe(deposited, _supply(i));
        }
    }

    /// @dev To the unit: what L1 counts is on L2, on its way there, or on its way back.
    function invariant_nothing_is_lost_on_the_way() public view {
        for (uint256 i = 0; i < tokens.length; ++i) {
            vm.assertEq(_deposited(i), _supply(i) + actor.arriving(i) + actor.leaving(i));
        }
    }

    function _deposited(uint256 i) private view returns (uint256) {
        (, bytes memory answer) =
            actor.bridgeOf().staticcall(abi.encodeWithSignature("deposited(address)", IERC20(tokens[i])));
        return abi.decode(answer, (uint256));
    }

    function _supply(uint256 i) private view returns (uint256) {
        BridgedToken token = L2.tokenOf(address(tokens[i]));
        return address(token).code.length == 0 ? 0 : token.totalSupply();
    }
}
