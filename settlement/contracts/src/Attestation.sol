// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IVerifier} from "./IVerifier.sol";
import {Commitment} from "./Types.sol";

/// @title Attestation
/// @notice Believes a commitment that enough independent verifiers have signed, each of which derived the chain itself.
/// @dev Members never change: for others, the timelock gives the rollup another verifier.
contract Attestation is IVerifier, EIP712 {
    /// @notice What a member signs (EIP-712; the domain is "Millrace", version "1", this chain and this contract).
    bytes32 public constant ATTESTATION_TYPEHASH = keccak256(
        "Attestation(address rollup,uint64 batch,bytes32 batchHash,uint64 firstBlock,uint64 lastBlock,bytes32 lastBlockHash,bytes32 stateRoot,bytes32 messageRoot,uint32 reverts)"
    );
    /// @notice Bytes of a signature: r, s, and v as 27 or 28.
    uint256 public constant SIGNATURE_LENGTH = 65;

    /// @notice How many members have to sign.
    uint256 public immutable threshold;
    /// @notice Seconds from a commitment to its finality, in which the guardian can still revert it.
    uint64 public immutable delay;

    /// @notice Whether an account's signature counts.
    mapping(address account => bool) public isMember;

    address[] private _members;

    /// @notice More signatures are asked for than there are members, or none.
    error ThresholdOutOfRange(uint256 threshold, uint256 members);
    /// @notice Members are given in rising order, each once, and none is zero.
    error MembersNotRising(address member);
    /// @notice The proof is not a whole number of signatures, or fewer than asked for.
    error SignaturesMissing(uint256 length, uint256 minimum);
    /// @notice Signatures are given in the rising order of their signers, each once.
    error SignersNotRising(address signer);
    /// @notice The signature of somebody who is no member, or of other words than these.
    error NotAMember(address signer);

    /// @param members_ Whose signatures count, in rising order.
    /// @param threshold_ How many of them have to sign, at least 1.
    /// @param delay_ Seconds from a commitment to its finality.
    constructor(address[] memory members_, uint256 threshold_, uint64 delay_) EIP712("Millrace", "1") {
        if (threshold_ == 0 || threshold_ > members_.length) revert ThresholdOutOfRange(threshold_, members_.length);
        address last = address(0);
        for (uint256 i = 0; i < members_.length; ++i) {
            if (members_[i] <= last) revert MembersNotRising(members_[i]);
            last = members_[i];
            isMember[last] = true;
        }
        _members = members_;
        threshold = threshold_;
        delay = delay_;
    }

    /// @inheritdoc IVerifier
    /// @param proof Signatures one behind the other, in the rising order of their signers; all of them have to count.
    function verify(Commitment calldata commitment, uint32 reverts, bytes calldata proof)
        external
        view
        returns (uint64)
    {
        if (proof.length % SIGNATURE_LENGTH != 0 || proof.length < threshold * SIGNATURE_LENGTH) {
            revert SignaturesMissing(proof.length, threshold * SIGNATURE_LENGTH);
        }
        bytes32 digest = attestationDigest(msg.sender, commitment, reverts);
        address last = address(0);
        for (uint256 start = 0; start < proof.length; start += SIGNATURE_LENGTH) {
            address signer = ECDSA.recoverCalldata(digest, proof[start:start + SIGNATURE_LENGTH]);
            if (signer <= last) revert SignersNotRising(signer);
            if (!isMember[signer]) revert NotAMember(signer);
            last = signer;
        }
        return delay;
    }

    /// @inheritdoc IVerifier
    function anyoneMayCommit() external pure returns (bool) {
        return true;
    }

    /// @notice What members sign for a commitment on a rollup that has seen so many reverts.
    function attestationDigest(address rollup, Commitment calldata commitment, uint32 reverts)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    ATTESTATION_TYPEHASH,
                    rollup,
                    commitment.number,
                    commitment.batchHash,
                    commitment.firstBlock,
                    commitment.lastBlock,
                    commitment.lastBlockHash,
                    commitment.stateRoot,
                    commitment.messageRoot,
                    reverts
                )
            )
        );
    }

    /// @notice All members, in rising order.
    function members() external view returns (address[] memory) {
        return _members;
    }
}
