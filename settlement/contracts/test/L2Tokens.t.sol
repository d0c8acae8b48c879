// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {Initializable} from "@openzeppelin/contracts-upgradeable/proxy/utils/Initializable.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {BridgedToken} from "../src/BridgedToken.sol";
import {L2TokenBridge} from "../src/L2TokenBridge.sol";
import {MessagePasser} from "../src/MessagePasser.sol";
import {Vm} from "./support/Vm.sol";

/// @dev The bridge's side on L2, and the tokens that it makes.
contract L2TokensTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address private constant BRIDGE = 0x4200000000000000000000000000000000000010;
    address private constant TOKEN_CODE = 0x4200000000000000000000000000000000000012;
    address private constant PASSER = 0x4200000000000000000000000000000000000016;
    /// @dev The bridge of L1, as L2 knows it: aliased like any contract.
    address private constant L1_BRIDGE = 0x5311000000000000000000000000000000001121;
    address private constant TOKEN = address(0x70);
    address private constant ALICE = address(0xB1);
    address private constant BOB = address(0xB2);

    L2TokenBridge private constant bridge = L2TokenBridge(BRIDGE);

    /// @dev As in the genesis: the runtime bytecode alone.
    function setUp() public {
        vm.etch(BRIDGE, type(L2TokenBridge).runtimeCode);
        vm.etch(TOKEN_CODE, type(BridgedToken).runtimeCode);
        vm.etch(PASSER, type(MessagePasser).runtimeCode);
    }

    function test_the_bridge_of_L1_makes_tokens() public {
        BridgedToken token = bridge.tokenOf(TOKEN);
        vm.assertEq(address(token).code.length, 0);
        vm.expectEmit(BRIDGE);
        emit L2TokenBridge.DepositFinished(TOKEN, ALICE, BOB, 100);
        _finish(TOKEN, BOB, 100);
        vm.assertEq(token.balanceOf(BOB), 100);
        vm.assertEq(token.l1Token(), TOKEN);
        // ERC-1167: the clone runs the predeploy's code.
        vm.assertEq(
            address(token).code,
            abi.encodePacked(hex"363d3d373d3d3d363d73", TOKEN_CODE, hex"5af43d82803e903d91602b57fd5bf3")
        );
    }

    function test_nobody_else_makes_tokens() public {
        L2TokenBridge.Metadata memory metadata = _metadata();
        address[4] memory others = [ALICE, BRIDGE, TOKEN, address(this)];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(L2TokenBridge.NotTheBridge.selector, others[i]));
            vm.prank(others[i], L1_BRIDGE);
            bridge.finishDeposit(TOKEN, ALICE, ALICE, 100, metadata);
        }
    }

    function test_what_was_said_first_stays() public {
        _finish(TOKEN, BOB, 100);
        L2TokenBridge.Metadata memory metadata = L2TokenBridge.Metadata("Other", "OTH", 1);
        vm.prank(L1_BRIDGE);
        bridge.finishDeposit(TOKEN, ALICE, BOB, 1, metadata);
        BridgedToken token = bridge.tokenOf(TOKEN);
        vm.assertEq(token.name(), "Token");
        vm.assertEq(token.symbol(), "TOK");
        vm.assertEq(token.decimals(), 6);
        vm.assertEq(token.totalSupply(), 101);
    }

    function test_only_the_bridge_makes_and_takes() public {
        _finish(TOKEN, BOB, 100);
        BridgedToken[2] memory tokens = [bridge.tokenOf(TOKEN), BridgedToken(TOKEN_CODE)];
        address[4] memory others = [ALICE, BOB, L1_BRIDGE, address(this)];
        for (uint256 i = 0; i < tokens.length; ++i) {
            for (uint256 j = 0; j < others.length; ++j) {
                bytes memory reason = abi.encodeWithSelector(BridgedToken.NotTheBridge.selector, others[j]);
                vm.expectRevert(reason);
                vm.prank(others[j]);
                tokens[i].mint(others[j], 1);
                vm.expectRevert(reason);
                vm.prank(others[j]);
                tokens[i].burn(BOB, 1);
                vm.expectRevert(reason);
                vm.prank(others[j]);
                tokens[i].initialize(TOKEN, "Mine", "MINE", 18);
            }
        }
    }

    function test_a_token_is_initialized_once() public {
        _finish(TOKEN, BOB, 100);
        BridgedToken token = bridge.tokenOf(TOKEN);
        vm.expectRevert(abi.encodeWithSelector(Initializable.InvalidInitialization.selector));
        vm.prank(BRIDGE);
        token.initialize(TOKEN, "Again", "AGN", 18);
    }

    function test_tokens_move_like_any_others() public {
        _finish(TOKEN, BOB, 100);
        BridgedToken token = bridge.tokenOf(TOKEN);
        vm.prank(BOB);
        token.transfer(ALICE, 30);
        vm.prank(BOB);
        token.approve(ALICE, 20);
        vm.prank(ALICE);
        token.transferFrom(BOB, ALICE, 20);
        vm.assertEq(token.balanceOf(ALICE), 50);
        vm.assertEq(token.balanceOf(BOB), 50);
        vm.assertEq(token.totalSupply(), 100);
    }

    /// @dev EIP-2612, the digest by hand: each clone has its own domain.
    function test_a_permit_is_a_signature_for_this_token() public {
        uint256 key = 0xD1;
        address holder = vm.addr(key);
        _finish(TOKEN, holder, 100);
        _finish(address(0x71), holder, 100);
        BridgedToken token = bridge.tokenOf(TOKEN);
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Token"),
                keccak256("1"),
                block.chainid,
                address(token)
            )
        );
        vm.assertEq(token.DOMAIN_SEPARATOR(), domain);
        bytes32 permit = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                holder,
                ALICE,
                uint256(40),
                uint256(0),
                type(uint256).max
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain, permit)));
        BridgedToken other = bridge.tokenOf(address(0x71));
        vm.expectRevert();
        other.permit(holder, ALICE, 40, type(uint256).max, v, r, s);
        token.permit(holder, ALICE, 40, type(uint256).max, v, r, s);
        vm.assertEq(token.allowance(holder, ALICE), 40);
        vm.expectRevert();
        token.permit(holder, ALICE, 40, type(uint256).max, v, r, s);
    }

    // ------------------------------------------------------------ withdrawals

    function test_a_withdrawal_takes_tokens_and_sends_a_message() public {
        _finish(TOKEN, BOB, 100);
        bytes memory call = abi.encodeWithSignature(
            "finishWithdrawal(address,address,address,uint256)", TOKEN, BOB, ALICE, uint256(60)
        );
        bytes32 id = keccak256(abi.encode(uint64(0), BRIDGE, BRIDGE, uint256(0), uint64(300_000), call));
        vm.expectEmit(BRIDGE);
        emit L2TokenBridge.WithdrawalStarted(TOKEN, BOB, ALICE, 60);
        vm.expectEmit(PASSER);
        emit MessagePasser.MessageSent(0, BRIDGE, BRIDGE, 0, 300_000, call, id);
        vm.prank(BOB);
        vm.assertEq(bridge.withdraw(TOKEN, ALICE, 60), id);
        vm.assertEq(bridge.tokenOf(TOKEN).totalSupply(), 40);
        vm.assertEq(bridge.tokenOf(TOKEN).balanceOf(BOB), 40);
    }

    function test_only_what_one_has_is_withdrawn() public {
        _finish(TOKEN, BOB, 100);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, ALICE, 0, 1));
        vm.prank(ALICE);
        bridge.withdraw(TOKEN, ALICE, 1);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, BOB, 100, 101));
        vm.prank(BOB);
        bridge.withdraw(TOKEN, BOB, 101);
        vm.assertEq(MessagePasser(payable(PASSER)).nonce(), 0);
    }

    function test_a_withdrawal_names_a_recipient() public {
        _finish(TOKEN, BOB, 100);
        vm.expectRevert(abi.encodeWithSelector(L2TokenBridge.RecipientZero.selector));
        vm.prank(BOB);
        bridge.withdraw(TOKEN, address(0), 1);
    }

    function test_a_token_that_never_came_does_not_go_back() public {
        vm.expectRevert(abi.encodeWithSelector(L2TokenBridge.TokenUnknown.selector, TOKEN));
        vm.prank(BOB);
        bridge.withdraw(TOKEN, BOB, 0);
    }

    function testFuzz_each_token_has_its_own_counterpart(address one, address other) public {
        vm.assume(one != other);
        vm.assertTrue(address(bridge.tokenOf(one)) != address(bridge.tokenOf(other)));
        address predicted = address(bridge.tokenOf(one));
        vm.assume(predicted.code.length == 0);
        _finish(one, BOB, 5);
        vm.assertEq(BridgedToken(predicted).l1Token(), one);
        vm.assertEq(BridgedToken(predicted).balanceOf(BOB), 5);
        vm.assertEq(address(bridge.tokenOf(other)).code.length, 0);
    }

    function _finish(address l1Token, address to, uint256 amount) private {
        L2TokenBridge.Metadata memory metadata = _metadata();
        vm.prank(L1_BRIDGE, L1_BRIDGE);
        bridge.finishDeposit(l1Token, ALICE, to, amount, metadata);
    }

    function _metadata() private pure returns (L2TokenBridge.Metadata memory) {
        return L2TokenBridge.Metadata({name: "Token", symbol: "TOK", decimals: 6});
    }
}
