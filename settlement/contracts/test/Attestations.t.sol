// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Attestation} from "../src/Attestation.sol";
import {Rollup} from "../src/Rollup.sol";
import {Commitment} from "../src/Types.sol";
import {RollupTest} from "./support/RollupTest.sol";

/// @dev Five members, of whom three sign.
contract AttestationsTest is RollupTest {
    uint256 private constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint64 private constant DELAY = 10 minutes;
    uint256 private constant FOREIGN_KEY = 0xF0;

    Attestation private attestation;
    /// @dev In the rising order of their addresses.
    uint256[] private keys;
    /// @dev How many reverts the members have seen when they sign.
    uint32 private seen;

    function setUp() public override {
        super.setUp();
        keys = _rising(5);
        attestation = new Attestation(_addresses(keys), 3, DELAY);
        _choose(attestation);
        _post(1, 10);
        _post(11, 20);
    }

    function test_it_keeps_its_members() public view {
        vm.assertEq(abi.encode(attestation.members()), abi.encode(_addresses(keys)));
        vm.assertEq(attestation.threshold(), 3);
        vm.assertEq(attestation.delay(), DELAY);
        vm.assertTrue(attestation.anyoneMayCommit());
        for (uint256 i = 0; i < keys.length; ++i) {
            vm.assertTrue(attestation.isMember(vm.addr(keys[i])));
        }
        vm.assertFalse(attestation.isMember(vm.addr(FOREIGN_KEY)));
        vm.assertFalse(attestation.isMember(address(0)));
    }

    function test_enough_members_make_a_commitment() public {
        Commitment memory commitment = _attested(1, 1, 10);
        vm.expectEmit(address(rollup));
        emit Rollup.BatchCommitted(1, commitment.stateRoot, commitment);
        vm.prank(COMMITTER);
        _callCommit(commitment, _signed(commitment, 0, 3));
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
        vm.warp(START + DELAY - 1);
        vm.assertFalse(rollup.isFinal(commitment));
        vm.warp(START + DELAY);
        vm.assertTrue(rollup.isFinal(commitment));
    }

    function test_more_than_enough_do_too() public {
        Commitment memory commitment = _attested(1, 1, 10);
        vm.prank(COMMITTER);
        _callCommit(commitment, _signed(commitment, 0, 5));
        vm.assertEq(rollup.lastCommittedBatch(), 1);
    }

    function test_anyone_brings_it() public {
        Commitment memory commitment = _attested(1, 1, 10);
        vm.prank(STRANGER);
        _callCommit(commitment, _signed(commitment, 2, 5));
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
    }

    /// @dev The committer has no say of its own here.
    function test_the_committer_alone_is_not_enough() public {
        Commitment memory commitment = _attested(1, 1, 10);
        _expectRefused(COMMITTER, commitment, "", _missing(0));
    }

    function test_the_guardian_reverts_until_it_is_final() public {
        Commitment memory commitment = _attested(1, 1, 10);
        Commitment memory none;
        _callCommit(commitment, _signed(commitment, 0, 3));
        vm.warp(START + DELAY - 1);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(commitment, none);
        vm.assertEq(rollup.lastCommittedBatch(), 0);

        seen = 1;
        commitment = _attested(1, 1, 10);
        _callCommit(commitment, _signed(commitment, 0, 3));
        vm.warp(commitment.finalAt);
        vm.expectRevert(abi.encodeWithSelector(Rollup.CommitmentIsFinal.selector, 1, commitment.finalAt));
        vm.prank(GUARDIAN);
        rollup.revertCommitments(commitment, none);
    }

    function test_without_delay_it_is_final_at_once() public {
        _choose(new Attestation(_addresses(keys), 3, 0));
        attestation = Attestation(address(rollup.verifier()));
        Commitment memory commitment = _attested(1, 1, 10);
        commitment.finalAt = START;
        _callCommit(commitment, _signed(commitment, 0, 3));
        vm.assertTrue(rollup.isFinal(commitment));
    }

    /// @dev What a slower verifier began stays the earlier one to be final.
    function test_it_is_not_final_before_what_a_window_holds_back() public {
        _choose(challengeWindow);
        Commitment memory first = _commit(1, 1, 10);
        _choose(new Attestation(_addresses(keys), 3, 0));
        attestation = Attestation(address(rollup.verifier()));
        vm.warp(START + 1 minutes);
        Commitment memory second = _attested(2, 11, 20);
        second.finalAt = first.finalAt;
        _callCommit(second, _signed(second, 0, 3));
        vm.assertEq(rollup.commitmentHash(2), _commitmentHash(second));
        vm.assertFalse(rollup.isFinal(second));
        vm.warp(first.finalAt);
        vm.assertTrue(rollup.isFinal(first));
        vm.assertTrue(rollup.isFinal(second));
    }

    function test_the_other_rules_hold_as_well() public {
        Commitment memory commitment = _attested(2, 11, 20);
        bytes memory proof = _signed(commitment, 0, 3);
        _expectRefused(STRANGER, commitment, proof, abi.encodeWithSelector(Rollup.BlocksNotContiguous.selector, 11, 1));
        commitment = _attested(1, 1, 10);
        commitment.batchHash = keccak256("other");
        proof = _signed(commitment, 0, 3);
        _expectRefused(
            STRANGER,
            commitment,
            proof,
            abi.encodeWithSelector(Rollup.BatchHashMismatch.selector, 1, keccak256("other"), rollup.batchHashes(1))
        );
    }

    // -------------------------------------------------------- what they sign

    function test_the_digest_is_that_of_the_type() public {
        Commitment memory commitment = _attested(1, 1, 10);
        vm.assertEq(attestation.attestationDigest(address(rollup), commitment, 0), _digest(commitment));
        seen = 7;
        vm.assertEq(attestation.attestationDigest(address(rollup), commitment, 7), _digest(commitment));
        vm.assertEq(
            attestation.ATTESTATION_TYPEHASH(),
            keccak256(
                "Attestation(address rollup,uint64 batch,bytes32 batchHash,uint64 firstBlock,uint64 lastBlock,bytes32 lastBlockHash,bytes32 stateRoot,bytes32 messageRoot,uint32 reverts)"
            )
        );
    }

    function test_a_signature_is_for_one_commitment_alone() public {
        Commitment memory signed = _attested(1, 1, 10);
        bytes memory proof = _signed(signed, 0, 3);
        for (uint256 field = 0; field < 7; ++field) {
            Commitment memory other = _attested(1, 1, 10);
            if (field == 0) other.number = 2;
            if (field == 1) other.batchHash = keccak256("other");
            if (field == 2) other.firstBlock = 2;
            if (field == 3) other.lastBlock = 11;
            if (field == 4) other.lastBlockHash = keccak256("other");
            if (field == 5) other.stateRoot = keccak256("other");
            if (field == 6) other.messageRoot = keccak256("other");
            vm.expectPartialRevert(Attestation.NotAMember.selector);
            vm.prank(address(rollup));
            attestation.verify(other, 0, proof);
        }
        vm.prank(address(rollup));
        vm.assertEq(attestation.verify(signed, 0, proof), DELAY);
    }

    function test_a_signature_is_for_one_rollup_alone() public {
        Commitment memory commitment = _attested(1, 1, 10);
        bytes memory proof = _signed(commitment, 0, 3);
        vm.expectPartialRevert(Attestation.NotAMember.selector);
        vm.prank(STRANGER);
        attestation.verify(commitment, 0, proof);

        Rollup.Config memory config = _config();
        config.verifier = attestation;
        rollup = _deploy(config);
        _post(1, 10);
        vm.assertEq(rollup.batchHashes(1), commitment.batchHash);
        vm.expectPartialRevert(Attestation.NotAMember.selector);
        _callCommit(commitment, proof);
    }

    function test_a_signature_is_for_one_set_of_members_alone() public {
        Commitment memory commitment = _attested(1, 1, 10);
        bytes memory proof = _signed(commitment, 0, 3);
        _choose(new Attestation(_addresses(keys), 3, DELAY));
        vm.expectPartialRevert(Attestation.NotAMember.selector);
        _callCommit(commitment, proof);
    }

    function test_a_signature_is_for_one_L1_alone() public {
        Commitment memory commitment = _attested(1, 1, 10);
        bytes memory proof = _signed(commitment, 0, 3);
        vm.chainId(5);
        vm.assertEq(attestation.attestationDigest(address(rollup), commitment, 0), _digest(commitment));
        vm.expectPartialRevert(Attestation.NotAMember.selector);
        _callCommit(commitment, proof);
        _callCommit(commitment, _signed(commitment, 0, 3));
    }

    /// @dev Its signatures are public, and anyone may bring them: the guardian's word would not last a block.
    function test_a_signature_is_not_good_after_a_revert() public {
        Commitment memory commitment = _attested(1, 1, 10);
        Commitment memory none;
        bytes memory proof = _signed(commitment, 0, 3);
        _callCommit(commitment, proof);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(commitment, none);
        vm.assertEq(rollup.revertCount(), 1);
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectPartialRevert(Attestation.NotAMember.selector);
            vm.prank(i == 0 ? STRANGER : COMMITTER);
            _callCommit(commitment, proof);
        }
        vm.assertEq(rollup.commitmentHash(1), 0);

        // The members sign it again, once they know of the revert, and no earlier signature goes with the new ones.
        bytes memory old = _sign(keys[0], commitment);
        seen = 1;
        bytes memory mixed = bytes.concat(old, _signed(commitment, 1, 3));
        vm.expectPartialRevert(Attestation.NotAMember.selector);
        _callCommit(commitment, mixed);
        _callCommit(commitment, _signed(commitment, 0, 3));
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
    }

    /// @dev Neither is one that was not used before, of the same batch or of a later one.
    function test_a_signature_kept_back_is_not_good_after_a_revert() public {
        Commitment memory first = _attested(1, 1, 10);
        Commitment memory none;
        _callCommit(first, _signed(first, 0, 3));
        Commitment memory second = _attested(2, 11, 20);
        bytes memory kept = _signed(second, 0, 3);
        Commitment memory other = _attested(2, 11, 20);
        other.stateRoot = keccak256("other");
        bytes memory keptOther = _signed(other, 0, 3);
        _callCommit(second, kept);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(second, first);
        vm.expectPartialRevert(Attestation.NotAMember.selector);
        _callCommit(other, keptOther);
        vm.prank(GUARDIAN);
        rollup.revertCommitments(first, none);

        seen = 1;
        bytes memory once = _signed(first, 0, 3);
        vm.expectPartialRevert(Attestation.NotAMember.selector);
        _callCommit(first, once);
        seen = 2;
        _callCommit(first, _signed(first, 0, 3));
        vm.assertEq(rollup.lastCommittedBatch(), 1);
    }

    /// @dev What was signed before stays good while nothing is reverted: commitments of others do not count.
    function test_a_signature_is_good_until_a_revert() public {
        Commitment memory second = _attested(2, 11, 20);
        bytes memory kept = _signed(second, 0, 3);
        Commitment memory first = _attested(1, 1, 10);
        _callCommit(first, _signed(first, 0, 3));
        second.previous = 1;
        _callCommit(second, kept);
        vm.assertEq(rollup.commitmentHash(2), _commitmentHash(second));
    }

    function test_an_enormous_delay_ends_with_the_time() public {
        _choose(new Attestation(_addresses(keys), 3, type(uint64).max));
        attestation = Attestation(address(rollup.verifier()));
        Commitment memory commitment = _attested(1, 1, 10);
        commitment.finalAt = type(uint64).max;
        _callCommit(commitment, _signed(commitment, 0, 3));
        vm.assertEq(rollup.commitmentHash(1), _commitmentHash(commitment));
        vm.assertFalse(rollup.isFinal(commitment));
    }

    // ------------------------------------------------------------ signatures

    function test_too_few_are_refused() public {
        Commitment memory commitment = _attested(1, 1, 10);
        _expectRefused(STRANGER, commitment, "", _missing(0));
        _expectRefused(STRANGER, commitment, _signed(commitment, 0, 2), _missing(130));
    }

    function test_lengths_that_are_no_number_of_signatures_are_refused() public {
        Commitment memory commitment = _attested(1, 1, 10);
        bytes memory proof = _signed(commitment, 0, 3);
        _expectRefused(STRANGER, commitment, bytes.concat(proof, hex"00"), _missing(196));
        assembly ("memory-safe") {
            mstore(proof, 194)
        }
        _expectRefused(STRANGER, commitment, proof, _missing(194));
        // Compact signatures (EIP-2098) are shorter.
        _expectRefused(STRANGER, commitment, new bytes(192), _missing(192));
    }

    function test_nobody_counts_twice() public {
        Commitment memory commitment = _attested(1, 1, 10);
        bytes memory one = _sign(keys[0], commitment);
        bytes memory two = _sign(keys[1], commitment);
        _expectRefused(STRANGER, commitment, bytes.concat(one, two, two), _notRising(keys[1]));
        _expectRefused(STRANGER, commitment, bytes.concat(one, one, two), _notRising(keys[0]));
        _expectRefused(STRANGER, commitment, bytes.concat(one, two, one), _notRising(keys[0]));
    }

    function test_signers_are_in_order() public {
        Commitment memory commitment = _attested(1, 1, 10);
        bytes memory proof =
            bytes.concat(_sign(keys[0], commitment), _sign(keys[2], commitment), _sign(keys[1], commitment));
        _expectRefused(STRANGER, commitment, proof, _notRising(keys[1]));
    }

    function test_all_of_them_are_members() public {
        Commitment memory commitment = _attested(1, 1, 10);
        bytes memory proof = "";
        uint256[] memory some = _rising(6);
        for (uint256 i = 0; i < some.length; ++i) {
            proof = bytes.concat(proof, _sign(some[i], commitment));
        }
        // The sixth key is no member's, and five members have signed.
        uint256 sixth = uint256(keccak256(abi.encode("member", uint256(5))));
        _expectRefused(
            STRANGER, commitment, proof, abi.encodeWithSelector(Attestation.NotAMember.selector, vm.addr(sixth))
        );
    }

    function test_the_second_form_of_a_signature_is_refused() public {
        Commitment memory commitment = _attested(1, 1, 10);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keys[0], _digest(commitment));
        bytes32 other = bytes32(CURVE_ORDER - uint256(s));
        bytes memory rest = _signed(commitment, 1, 3);
        _expectRefused(
            STRANGER,
            commitment,
            bytes.concat(abi.encodePacked(r, other, v == 27 ? uint8(28) : uint8(27)), rest),
            abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, other)
        );
        _expectRefused(
            STRANGER,
            commitment,
            bytes.concat(abi.encodePacked(r, s, v - 27), rest),
            abi.encodeWithSelector(ECDSA.ECDSAInvalidSignature.selector)
        );
        _expectRefused(
            STRANGER, commitment, new bytes(195), abi.encodeWithSelector(ECDSA.ECDSAInvalidSignature.selector)
        );
    }

    // ---------------------------------------------------------------- set-up

    function test_the_threshold_is_one_to_all() public {
        address[] memory members = _addresses(keys);
        vm.expectRevert(abi.encodeWithSelector(Attestation.ThresholdOutOfRange.selector, 0, 5));
        new Attestation(members, 0, DELAY);
        vm.expectRevert(abi.encodeWithSelector(Attestation.ThresholdOutOfRange.selector, 6, 5));
        new Attestation(members, 6, DELAY);
        vm.expectRevert(abi.encodeWithSelector(Attestation.ThresholdOutOfRange.selector, 1, 0));
        new Attestation(new address[](0), 1, DELAY);
        vm.assertEq(new Attestation(members, 1, DELAY).threshold(), 1);
        vm.assertEq(new Attestation(members, 5, DELAY).threshold(), 5);
    }

    function test_members_are_given_in_order_and_once() public {
        address[] memory members = _addresses(keys);
        members[1] = members[0];
        vm.expectRevert(abi.encodeWithSelector(Attestation.MembersNotRising.selector, members[1]));
        new Attestation(members, 3, DELAY);

        members = _addresses(keys);
        (members[0], members[1]) = (members[1], members[0]);
        vm.expectRevert(abi.encodeWithSelector(Attestation.MembersNotRising.selector, members[1]));
        new Attestation(members, 3, DELAY);

        members = _addresses(keys);
        members[0] = address(0);
        vm.expectRevert(abi.encodeWithSelector(Attestation.MembersNotRising.selector, address(0)));
        new Attestation(members, 3, DELAY);
    }

    // ------------------------------------------------------------------ fuzz

    /// @dev Any choice of the five and of a stranger, in order: taken exactly if they are enough and all members.
    function testFuzz_signers(uint8 chosen, bytes32 stateRoot, bytes32 messageRoot) public {
        uint256[] memory all = _rising(6);
        Commitment memory commitment = _attested(1, 1, 10);
        commitment.stateRoot = stateRoot;
        commitment.messageRoot = messageRoot;
        bytes32 digest = _digest(commitment);
        bytes memory proof = "";
        uint256 count = 0;
        bool foreign = false;
        for (uint256 i = 0; i < all.length; ++i) {
            if (chosen >> i & 1 == 0) continue;
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(all[i], digest);
            proof = abi.encodePacked(proof, r, s, v);
            ++count;
            foreign = foreign || !attestation.isMember(vm.addr(all[i]));
        }
        if (count < 3) vm.expectRevert(_missing(65 * count));
        else if (foreign) vm.expectPartialRevert(Attestation.NotAMember.selector);
        _callCommit(commitment, proof);
        vm.assertEq(rollup.commitmentHash(1), count < 3 || foreign ? bytes32(0) : _commitmentHash(commitment));
    }

    function testFuzz_signers_in_any_other_order_are_refused(uint256 seed) public {
        Commitment memory commitment = _attested(1, 1, 10);
        uint256[3] memory picked = [seed % 5, (seed >> 8) % 5, (seed >> 16) % 5];
        vm.assume(picked[0] >= picked[1] || picked[1] >= picked[2]);
        bytes memory proof = bytes.concat(
            _sign(keys[picked[0]], commitment), _sign(keys[picked[1]], commitment), _sign(keys[picked[2]], commitment)
        );
        _expectRefused(
            STRANGER, commitment, proof, _notRising(picked[0] >= picked[1] ? keys[picked[1]] : keys[picked[2]])
        );
    }

    function testFuzz_the_digest_covers_what_is_committed(
        address of_,
        uint64 number,
        bytes32 batchHash,
        uint64 firstBlock,
        uint64 lastBlock,
        bytes32 lastBlockHash,
        bytes32 stateRoot,
        bytes32 messageRoot,
        uint32 reverts
    ) public {
        Commitment memory commitment = Commitment({
            number: number,
            previous: 0,
            batchHash: batchHash,
            firstBlock: firstBlock,
            lastBlock: lastBlock,
            lastBlockHash: lastBlockHash,
            stateRoot: stateRoot,
            messageRoot: messageRoot,
            committedAt: 0,
            finalAt: 0
        });
        rollup = Rollup(payable(of_));
        seen = reverts;
        vm.assertEq(attestation.attestationDigest(of_, commitment, reverts), _digest(commitment));
    }

    function testFuzz_no_bytes_pass_for_signatures(bytes calldata garbage) public {
        Commitment memory commitment = _attested(1, 1, 10);
        vm.expectRevert();
        _callCommit(commitment, garbage);
    }

    // --------------------------------------------------------------- helpers

    /// @dev What a commit of `number` now would record, by the attestation.
    function _attested(uint64 number, uint64 firstBlock, uint64 lastBlock) private view returns (Commitment memory c) {
        c = _commitment(number, firstBlock, lastBlock);
        c.finalAt = _now() + DELAY;
    }

    /// @dev EIP-712 by hand.
    function _digest(Commitment memory c) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Millrace"),
                keccak256("1"),
                block.chainid,
                address(attestation)
            )
        );
        bytes32 typeHash = keccak256(
            "Attestation(address rollup,uint64 batch,bytes32 batchHash,uint64 firstBlock,uint64 lastBlock,bytes32 lastBlockHash,bytes32 stateRoot,bytes32 messageRoot,uint32 reverts)"
        );
        bytes32 content = keccak256(
            abi.encode(
                typeHash,
                address(rollup),
                uint256(c.number),
                c.batchHash,
                uint256(c.firstBlock),
                uint256(c.lastBlock),
                c.lastBlockHash,
                c.stateRoot,
                c.messageRoot,
                uint256(seen)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, content));
    }

    function _sign(uint256 key, Commitment memory commitment) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, _digest(commitment));
        return abi.encodePacked(r, s, v);
    }

    /// @dev The signatures of the members from `from` to before `to`.
    function _signed(Commitment memory commitment, uint256 from, uint256 to) private view returns (bytes memory proof) {
        for (uint256 i = from; i < to; ++i) {
            proof = bytes.concat(proof, _sign(keys[i], commitment));
        }
    }

    /// @dev As many keys in the rising order of their addresses.
    function _rising(uint256 count) private pure returns (uint256[] memory sorted) {
        sorted = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 key = uint256(keccak256(abi.encode("member", i)));
            uint256 place = i;
            while (place > 0 && vm.addr(sorted[place - 1]) > vm.addr(key)) {
                sorted[place] = sorted[place - 1];
                --place;
            }
            sorted[place] = key;
        }
    }

    function _addresses(uint256[] memory from) private pure returns (address[] memory members) {
        members = new address[](from.length);
        for (uint256 i = 0; i < from.length; ++i) {
            members[i] = vm.addr(from[i]);
        }
    }

    function _missing(uint256 length) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Attestation.SignaturesMissing.selector, length, 195);
    }

    function _notRising(uint256 key) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Attestation.SignersNotRising.selector, vm.addr(key));
    }

    function _expectRefused(address sender, Commitment memory commitment, bytes memory proof, bytes memory reason)
        private
    {
        vm.expectRevert(reason);
        vm.prank(sender);
        _callCommit(commitment, proof);
    }
}
