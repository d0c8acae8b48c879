// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";

/// @title Rollup
/// @notice The L1 side of a Millrace chain: takes deposits in, records every posted batch under the hashes of
/// its blobs, and holds the commitment to each verified batch until its challenge window has passed.
/// @dev Three hash chains or maps carry everything that a verifier has to check, one storage slot an entry:
/// `depositAccumulator` (deposits by index), `batchHashes` (posted batches by number) and the commitment hashes
/// (committed batches by number). All else that a verifier reads is in the events, which start at `deployedAt`.
contract Rollup is AccessControl {
    // ---------------------------------------------------------------- types

    /// @notice What a chain is made with.
    struct Config {
        /// Holds `DEFAULT_ADMIN_ROLE` and `GUARDIAN_ROLE`.
        address owner;
        /// Holds `BATCHER_ROLE`.
        address batcher;
        /// Holds `COMMITTER_ROLE`.
        address committer;
        /// Chain id of the rollup, which is not the chain id of this L1.
        uint64 l2ChainId;
        /// Seconds from a commitment to its finality.
        uint64 challengeWindow;
        /// Hash of L2 block 0.
        bytes32 genesisHash;
        /// State root of L2 block 0.
        bytes32 genesisStateRoot;
    }

    /// @notice What a batch says about itself.
    struct BatchHeader {
        /// Position in the sequence of posted batches, from 1.
        uint64 number;
        /// First L2 block in the batch.
        uint64 firstBlock;
        /// Last L2 block in the batch, inclusive.
        uint64 lastBlock;
        /// Number of deposits that L2 has consumed once the batch is applied.
        uint64 depositsEnd;
        /// `depositAccumulator[depositsEnd]`: the batch was built over these deposits and not over others.
        bytes32 depositsHash;
        /// Digest of the batch's bytes, as the batch codec defines it.
        bytes32 digest;
        /// Where the bytes are: one of the `DA_` constants.
        uint8 daKind;
    }

    /// @notice The result of a batch, as the committer derived and re-executed it.
    struct Commitment {
        /// Number of the batch.
        uint64 number;
        /// Number of the batch whose commitment came directly before, 0 if this is the first one.
        uint64 previous;
        /// `batchHashes[number]`.
        bytes32 batchHash;
        /// First L2 block of the batch.
        uint64 firstBlock;
        /// Last L2 block of the batch, inclusive.
        uint64 lastBlock;
        /// Hash of `lastBlock`.
        bytes32 lastBlockHash;
        /// State root after `lastBlock`.
        bytes32 stateRoot;
        /// Merkle root over the L2-to-L1 messages of this batch's blocks; zero if there are none.
        bytes32 messageRoot;
        /// L1 timestamp, in seconds, at which the commitment was made.
        uint64 committedAt;
    }

    /// @dev The counters, in one slot: a post or a commit reads and writes it once.
    struct Heads {
        uint64 batchCount;
        uint64 depositCount;
        uint64 lastCommittedBatch;
        uint64 lastCommittedBlock;
    }

    // ------------------------------------------------------------ constants

    /// @notice Version of this contract's interface and of the hashes that it computes.
    uint32 public constant VERSION = 1;

    /// @notice May post batches.
    bytes32 public constant BATCHER_ROLE = keccak256("BATCHER_ROLE");
    /// @notice May commit posted batches.
    bytes32 public constant COMMITTER_ROLE = keccak256("COMMITTER_ROLE");
    /// @notice May revert commitments that are still in their challenge window.
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    /// @notice The batch is in the blobs of the transaction that posts it.
    uint8 public constant DA_L1_BLOB = 1;
    /// @notice The batch is in the calldata of the transaction that posts it, as its `daPointer`.
    uint8 public constant DA_L1_CALLDATA = 2;
    /// @notice The batch is on an alt-DA server; `daPointer` is its commitment.
    uint8 public constant DA_ALT = 3;
    /// @notice The batch is on Celestia; `daPointer` is its height and commitment.
    uint8 public constant DA_CELESTIA = 4;
    /// @notice The batch is in an object store; `daPointer` is its key.
    uint8 public constant DA_OBJECT_STORE = 5;

    /// @notice L2 gas that `depositETH` gives its transaction.
    uint64 public constant DEPOSIT_ETH_GAS = 100_000;
    /// @notice The most L2 gas that one deposit may ask for.
    uint64 public constant MAX_DEPOSIT_GAS = 1_000_000;
    /// @notice The least L2 gas of a deposit without data.
    uint64 public constant DEPOSIT_BASE_GAS = 21_000;
    /// @notice The least L2 gas for a byte of a deposit's data (EIP-7623's floor for a nonzero byte).
    uint64 public constant DEPOSIT_BYTE_GAS = 40;
    /// @notice The most bytes of data in one deposit. (The gas limits bind earlier while they are as they are.)
    uint256 public constant MAX_DEPOSIT_DATA = 32 * 1024;

    /// @dev Added to the address of a contract that deposits, so that on L2 it is not the account of the same
    /// address, which somebody else may control there.
    uint160 private constant ALIAS_OFFSET = uint160(0x1111000000000000000000000000000000001111);

    /// @notice Chain id of the rollup.
    uint64 public immutable l2ChainId;
    /// @notice Seconds from a commitment to its finality.
    uint64 public immutable challengeWindow;
    /// @notice Number of the L1 block in which this contract was deployed: event scans start here.
    uint64 public immutable deployedAt;
    /// @notice Hash of L2 block 0.
    bytes32 public immutable genesisHash;
    /// @notice State root of L2 block 0.
    bytes32 public immutable genesisStateRoot;

    // -------------------------------------------------------------- storage

    Heads private _heads;

    /// @notice Chained hash of the posted batches by number: `batchHashes[n]` = keccak256(abi.encode(
    /// batchHashes[n - 1], header, keccak256(abi.encode(blobHashes)), keccak256(daPointer))); 0 for `n` = 0 and
    /// for a batch that is not posted.
    mapping(uint64 number => bytes32 hash) public batchHashes;

    /// @dev keccak256(abi.encode(Commitment)) by batch number; nonzero exactly while the commitment stands.
    mapping(uint64 number => bytes32 hash) private _commitmentHashes;

    /// @notice Chained hash of the first `count` deposits: `depositAccumulator[i + 1]` = keccak256(abi.encode(
    /// depositAccumulator[i], keccak256(abi.encode(i, from, to, value, gasLimit, keccak256(data))))), from 0.
    mapping(uint64 count => bytes32 hash) public depositAccumulator;

    // --------------------------------------------------------------- events

    /// @notice The genesis of the chain, so that L1 is all that a verifier needs.
    /// @param genesis zstd-compressed geth-format genesis JSON. Whoever reads it checks it against `genesisHash`.
    event GenesisPublished(bytes genesis);

    /// @notice A deposit has joined the queue.
    /// @param index Position in the queue, from 0. L2 consumes deposits in this order, each once.
    /// @param from Sender on L2: the caller, aliased if it is a contract.
    /// @param to Recipient on L2.
    /// @param value Wei held here, minted to `from` on L2 and sent to `to`.
    /// @param gasLimit Gas that the transaction may use on L2.
    /// @param data Input of the call to `to`.
    /// @param accumulator `depositAccumulator[index + 1]`.
    event DepositQueued(
        uint64 indexed index,
        address indexed from,
        address indexed to,
        uint256 value,
        uint64 gasLimit,
        bytes data,
        bytes32 accumulator
    );

    /// @notice A batch has been posted.
    /// @param number Number of the batch.
    /// @param digest Digest of its bytes.
    /// @param batchHash `batchHashes[number]`.
    /// @param header All that the batch says about itself.
    /// @param blobHashes Versioned hashes (EIP-4844) of the transaction's blobs, in their order.
    /// @param daPointer Where the bytes are, in the form that `header.daKind` defines.
    event BatchPosted(
        uint64 indexed number,
        bytes32 indexed digest,
        bytes32 batchHash,
        BatchHeader header,
        bytes32[] blobHashes,
        bytes daPointer
    );

    /// @notice A batch has been committed, and its challenge window has begun.
    /// @param number Number of the batch.
    /// @param stateRoot State root after the batch.
    /// @param commitment What was committed; its hash is `commitmentHash(number)`.
    event BatchCommitted(uint64 indexed number, bytes32 indexed stateRoot, Commitment commitment);

    /// @notice The commitments to this batch and to all later ones no longer stand.
    /// @param fromBatch Number of the first batch whose commitment was reverted.
    event CommitmentsReverted(uint64 indexed fromBatch);

    // --------------------------------------------------------------- errors

    /// @notice A setting that has to be given is zero. `field` is its name in `Config`.
    error ConfigFieldZero(string field);
    /// @notice A deposit has to name a recipient: address zero can not be one.
    error DepositRecipientZero();
    /// @notice A contract has to call `depositETH` and name the recipient: nobody may hold its address on L2.
    error PlainTransferFromContract(address sender);
    /// @notice The deposit has more data than the limit.
    error DepositDataTooLarge(uint256 length, uint256 limit);
    /// @notice The deposit's gas limit does not cover what L2 charges before execution.
    error DepositGasTooLow(uint64 gasLimit, uint256 minimum);
    /// @notice The deposit's gas limit is above the limit.
    error DepositGasTooHigh(uint64 gasLimit, uint64 limit);
    /// @notice Batches are posted in order, each number once.
    error UnexpectedBatchNumber(uint64 number, uint64 expected);
    /// @notice The range of blocks is empty.
    error EmptyBlockRange(uint64 firstBlock, uint64 lastBlock);
    /// @notice The batch consumes deposits that nobody made.
    error DepositsNotQueued(uint64 depositsEnd, uint64 depositCount);
    /// @notice The batch was built over other deposits than those in the queue (an L1 reorg can do this).
    error DepositsHashMismatch(uint64 depositsEnd, bytes32 given, bytes32 expected);
    /// @notice No DA kind has this number.
    error UnknownDaKind(uint8 daKind);
    /// @notice The batch is said to be in blobs, but the transaction has none.
    error BlobsMissing();
    /// @notice The batch is said to be elsewhere, but the transaction has blobs.
    error UnexpectedBlobs(uint8 daKind);
    /// @notice Nothing says where the batch is.
    error DaPointerEmpty(uint8 daKind);
    /// @notice The batch is not posted, or it is another one than the caller derived. `posted` is 0 in the first case.
    error BatchHashMismatch(uint64 number, bytes32 given, bytes32 posted);
    /// @notice This batch or a later one is committed.
    error BatchNotAfterLastCommitted(uint64 number, uint64 lastCommittedBatch);
    /// @notice The batch does not begin at the block after the last committed one.
    error BlocksNotContiguous(uint64 firstBlock, uint64 expected);
    /// @notice No such commitment stands. `stored` is the hash of the one that does, or 0.
    error CommitmentUnknown(uint64 number, bytes32 stored);
    /// @notice There are, or may be, commitments between the two.
    error CommitmentsNotAdjacent(uint64 previous, uint64 newLast);
    /// @notice The challenge window of the commitment is over, so it stays.
    error CommitmentIsFinal(uint64 number, uint256 finalAt);

    // --------------------------------------------------------------- set-up

    /// @param config See `Config`; only `challengeWindow` may be zero (commitments are final at once).
    constructor(Config memory config) {
        if (config.owner == address(0)) revert ConfigFieldZero("owner");
        if (config.batcher == address(0)) revert ConfigFieldZero("batcher");
        if (config.committer == address(0)) revert ConfigFieldZero("committer");
        if (config.l2ChainId == 0) revert ConfigFieldZero("l2ChainId");
        if (config.genesisHash == 0) revert ConfigFieldZero("genesisHash");
        if (config.genesisStateRoot == 0) revert ConfigFieldZero("genesisStateRoot");

        _grantRole(DEFAULT_ADMIN_ROLE, config.owner);
        _grantRole(GUARDIAN_ROLE, config.owner);
        _grantRole(BATCHER_ROLE, config.batcher);
        _grantRole(COMMITTER_ROLE, config.committer);
        l2ChainId = config.l2ChainId;
        challengeWindow = config.challengeWindow;
        deployedAt = uint64(block.number);
        genesisHash = config.genesisHash;
        genesisStateRoot = config.genesisStateRoot;
    }

    /// @notice Publishes the chain's genesis in an event. May be repeated: readers keep the one that `genesisHash` fits.
    /// @param genesis zstd-compressed geth-format genesis JSON.
    function publishGenesis(bytes calldata genesis) external onlyRole(DEFAULT_ADMIN_ROLE) {
        emit GenesisPublished(genesis);
    }

    // ------------------------------------------------------------- deposits

    /// @notice A plain transfer from an account deposits to the same account on L2.
    receive() external payable {
        if (msg.sender != tx.origin) revert PlainTransferFromContract(msg.sender);
        depositETH(msg.sender);
    }

    /// @notice Deposits ether.
    /// @param to Recipient on L2.
    function depositETH(address to) public payable {
        _deposit(to, DEPOSIT_ETH_GAS, "");
    }

    /// @notice Queues a transaction from the caller on L2, with the ether sent along as its value.
    /// @param to Recipient of the call on L2; a deposit does not create contracts.
    /// @param gasLimit L2 gas, from `DEPOSIT_BASE_GAS` + `DEPOSIT_BYTE_GAS` * data.length to `MAX_DEPOSIT_GAS`.
    /// @param data Input of the call, `MAX_DEPOSIT_DATA` bytes at most.
    function depositTransaction(address to, uint64 gasLimit, bytes calldata data) external payable {
        if (data.length > MAX_DEPOSIT_DATA) revert DepositDataTooLarge(data.length, MAX_DEPOSIT_DATA);
        uint256 minimum = DEPOSIT_BASE_GAS + DEPOSIT_BYTE_GAS * data.length;
        if (gasLimit < minimum) revert DepositGasTooLow(gasLimit, minimum);
        if (gasLimit > MAX_DEPOSIT_GAS) revert DepositGasTooHigh(gasLimit, MAX_DEPOSIT_GAS);
        _deposit(to, gasLimit, data);
    }

    function _deposit(address to, uint64 gasLimit, bytes memory data) private {
        if (to == address(0)) revert DepositRecipientZero();
        // A caller that is also the origin has a key, and with it the same account on L2, whether or not it has
        // delegated its code (EIP-7702).
        address from = msg.sender;
        unchecked {
            if (from != tx.origin) from = address(uint160(from) + ALIAS_OFFSET);
        }

        uint64 index = _heads.depositCount;
        bytes32 depositHash = keccak256(abi.encode(index, from, to, msg.value, gasLimit, keccak256(data)));
        bytes32 accumulator = keccak256(abi.encode(depositAccumulator[index], depositHash));
        _heads.depositCount = index + 1;
        depositAccumulator[index + 1] = accumulator;
        emit DepositQueued(index, from, to, msg.value, gasLimit, data, accumulator);
    }

    // -------------------------------------------------------------- batches

    /// @notice Records a batch under the hashes of the blobs that came with it.
    /// @dev Blocks of batches posted one after another need not join: derivation skips a batch that does not
    /// continue the chain, and `commitBatch` takes none that does not.
    /// @param header What the batch says about itself.
    /// @param daPointer Where its bytes are. May be empty for blobs alone.
    function postBatch(BatchHeader calldata header, bytes calldata daPointer) external onlyRole(BATCHER_ROLE) {
        Heads memory heads = _heads;
        uint64 number = header.number;
        if (number != heads.batchCount + 1) revert UnexpectedBatchNumber(number, heads.batchCount + 1);
        if (header.lastBlock < header.firstBlock) revert EmptyBlockRange(header.firstBlock, header.lastBlock);
        _checkDeposits(header.depositsEnd, header.depositsHash, heads.depositCount);
        bytes32[] memory blobHashes = _checkedBlobHashes(header.daKind, daPointer.length);

        bytes32 batchHash = keccak256(
            abi.encode(batchHashes[number - 1], header, keccak256(abi.encode(blobHashes)), keccak256(daPointer))
        );
        batchHashes[number] = batchHash;
        _heads.batchCount = number;
        emit BatchPosted(number, header.digest, batchHash, header, blobHashes, daPointer);
    }

    function _checkDeposits(uint64 depositsEnd, bytes32 depositsHash, uint64 queued) private view {
        if (depositsEnd > queued) revert DepositsNotQueued(depositsEnd, queued);
        bytes32 expected = depositAccumulator[depositsEnd];
        if (depositsHash != expected) revert DepositsHashMismatch(depositsEnd, depositsHash, expected);
    }

    /// @dev The versioned hashes of the transaction's blobs, having checked that they and the pointer fit the kind.
    function _checkedBlobHashes(uint8 daKind, uint256 pointerLength) private view returns (bytes32[] memory hashes) {
        if (daKind < DA_L1_BLOB || daKind > DA_OBJECT_STORE) revert UnknownDaKind(daKind);
        uint256 count;
        while (blobhash(count) != 0) ++count;
        if (daKind == DA_L1_BLOB) {
            if (count == 0) revert BlobsMissing();
        } else {
            if (count != 0) revert UnexpectedBlobs(daKind);
            if (pointerLength == 0) revert DaPointerEmpty(daKind);
        }
        hashes = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            hashes[i] = blobhash(i);
        }
    }

    // ---------------------------------------------------------- commitments

    /// @notice Commits the result of a posted batch. Numbers may be skipped (batches that derivation rejects), blocks not.
    /// @param number Number of the batch, after the last committed one.
    /// @param batchHash `batchHashes[number]`, so that nothing is committed for a batch which an L1 reorg replaced.
    /// @param firstBlock First L2 block of the batch: the one after the last committed block.
    /// @param lastBlock Last L2 block of the batch, inclusive.
    /// @param lastBlockHash Hash of `lastBlock`.
    /// @param stateRoot State root after `lastBlock`.
    /// @param messageRoot Merkle root over the L2-to-L1 messages of this batch's blocks; zero if there are none.
    function commitBatch(
        uint64 number,
        bytes32 batchHash,
        uint64 firstBlock,
        uint64 lastBlock,
        bytes32 lastBlockHash,
        bytes32 stateRoot,
        bytes32 messageRoot
    ) external onlyRole(COMMITTER_ROLE) {
        Heads memory heads = _heads;
        uint64 previous = heads.lastCommittedBatch;
        if (number <= previous) revert BatchNotAfterLastCommitted(number, previous);
        bytes32 posted = batchHashes[number];
        if (posted == 0 || batchHash != posted) revert BatchHashMismatch(number, batchHash, posted);
        if (firstBlock != heads.lastCommittedBlock + 1) {
            revert BlocksNotContiguous(firstBlock, heads.lastCommittedBlock + 1);
        }
        if (lastBlock < firstBlock) revert EmptyBlockRange(firstBlock, lastBlock);

        Commitment memory commitment = Commitment({
            number: number,
            previous: previous,
            batchHash: batchHash,
            firstBlock: firstBlock,
            lastBlock: lastBlock,
            lastBlockHash: lastBlockHash,
            stateRoot: stateRoot,
            messageRoot: messageRoot,
            committedAt: uint64(block.timestamp)
        });
        _commitmentHashes[number] = keccak256(abi.encode(commitment));
        heads.lastCommittedBatch = number;
        heads.lastCommittedBlock = lastBlock;
        _heads = heads;
        emit BatchCommitted(number, stateRoot, commitment);
    }

    /// @notice Takes back the newest commitments, which are all still in their challenge window; the blocks can
    /// then be committed again.
    /// @dev Costs about 5,000 gas for each commitment. More of them than fit a transaction are reverted newest
    /// part first.
    /// @param firstReverted The oldest commitment to revert. Later ones were made later, so none of them is final either.
    /// @param newLast The commitment directly before it, which becomes the last one; `number` 0 if there is none.
    function revertCommitments(Commitment calldata firstReverted, Commitment calldata newLast)
        external
        onlyRole(GUARDIAN_ROLE)
    {
        uint64 fromBatch = firstReverted.number;
        _checkStands(firstReverted);
        uint256 finalAt = _finalAt(firstReverted);
        if (block.timestamp >= finalAt) revert CommitmentIsFinal(fromBatch, finalAt);
        if (firstReverted.previous != newLast.number) {
            revert CommitmentsNotAdjacent(firstReverted.previous, newLast.number);
        }
        uint64 lastBlock = 0;
        if (newLast.number != 0) {
            _checkStands(newLast);
            lastBlock = newLast.lastBlock;
        }

        uint64 toBatch = _heads.lastCommittedBatch;
        for (uint64 number = fromBatch; number <= toBatch; ++number) {
            delete _commitmentHashes[number];
        }
        _heads.lastCommittedBatch = newLast.number;
        _heads.lastCommittedBlock = lastBlock;
        emit CommitmentsReverted(fromBatch);
    }

    function _checkStands(Commitment calldata commitment) private view {
        bytes32 stored = _commitmentHashes[commitment.number];
        if (stored != keccak256(abi.encode(commitment))) revert CommitmentUnknown(commitment.number, stored);
    }

    function _finalAt(Commitment calldata commitment) private view returns (uint256) {
        return uint256(commitment.committedAt) + challengeWindow;
    }

    // ---------------------------------------------------------------- views

    /// @notice Whether the commitment stands and its challenge window is over: from `committedAt` +
    /// `challengeWindow` on, that second included, in which it can no longer be reverted.
    function isFinal(Commitment calldata commitment) external view returns (bool) {
        return _commitmentHashes[commitment.number] == keccak256(abi.encode(commitment))
            && block.timestamp >= _finalAt(commitment);
    }

    /// @notice keccak256(abi.encode(Commitment)) of the commitment to a batch; 0 if none stands.
    function commitmentHash(uint64 number) external view returns (bytes32) {
        return _commitmentHashes[number];
    }

    /// @notice Number of posted batches, which is also the number of the last one.
    function batchCount() external view returns (uint64) {
        return _heads.batchCount;
    }

    /// @notice Number of deposits made.
    function depositCount() external view returns (uint64) {
        return _heads.depositCount;
    }

    /// @notice Number of the last committed batch; 0 if there is none.
    function lastCommittedBatch() external view returns (uint64) {
        return _heads.lastCommittedBatch;
    }

    /// @notice The last L2 block that a commitment covers; 0, the genesis block, if there is none.
    function lastCommittedBlock() external view returns (uint64) {
        return _heads.lastCommittedBlock;
    }
}
