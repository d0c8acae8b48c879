// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

import {
    AccessControlDefaultAdminRulesUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/extensions/AccessControlDefaultAdminRulesUpgradeable.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {AddressAlias} from "./AddressAlias.sol";
import {IVerifier} from "./IVerifier.sol";
import {Predeploys} from "./Predeploys.sol";
import {BatchHeader, Commitment, Message} from "./Types.sol";

/// @title Rollup
/// @notice The L1 side of a Millrace chain: takes deposits in, records every posted batch under the hashes of
/// its blobs, holds the commitment to each verified batch until its verifier calls it final, and delivers the messages
/// of final batches together with the ether that belongs to them.
/// @dev Lives behind a proxy whose code the timelock alone can change. Hash chains and maps carry everything that a
/// verifier has to check, one storage slot an entry: `depositAccumulator` (deposits by index), `batchHashes` (posted
/// batches by number) and the commitment hashes (committed batches by number). All else that a verifier reads is in the
/// events, which start at `deployedAt`.
contract Rollup is AccessControlDefaultAdminRulesUpgradeable, ReentrancyGuardTransient {
    // ---------------------------------------------------------------- types

    /// @notice What a chain is made with.
    struct Config {
        /// Grants and revokes roles; handed over in two steps (`beginDefaultAdminTransfer`).
        address owner;
        /// Seconds between the two steps, at least.
        uint48 ownerTransferDelay;
        /// Holds `BATCHER_ROLE`.
        address batcher;
        /// Holds `COMMITTER_ROLE`.
        address committer;
        /// Holds `GUARDIAN_ROLE`.
        address guardian;
        /// Chooses the verifier, and owns the proxy's admin.
        address timelock;
        /// What makes commitments final.
        IVerifier verifier;
        /// Bridges tokens: the only contract that L2 knows by `Predeploys.TOKEN_BRIDGE`.
        address tokenBridge;
        /// Chain id of the rollup, which is not the chain id of this L1.
        uint64 l2ChainId;
        /// Seconds without a sign of life of the batcher after which anyone may post.
        uint64 sequencerTimeout;
        /// L1 blocks after which the queue's entries are overdue: no batch is taken that leaves out an overdue one.
        uint64 inclusionWindow;
        /// Hash of L2 block 0.
        bytes32 genesisHash;
        /// State root of L2 block 0.
        bytes32 genesisStateRoot;
        /// keccak256 of the compressed genesis that `publishGenesis` takes.
        bytes32 genesisDigest;
    }

    /// @notice What became of a message.
    enum MessageStatus {
        /// Not relayed yet.
        None,
        /// Relayed, but its call failed: `retryMessage` tries again.
        Failed,
        /// Its call succeeded, which happens once.
        Delivered
    }

    /// @dev What a post or a deposit reads and writes, in one slot.
    struct Queues {
        uint64 batchCount;
        uint64 depositCount;
        uint48 lastPostedAt;
        uint32 epoch;
        bool paused;
    }

    /// @dev What a commit reads and writes, in one slot.
    struct Heads {
        uint64 lastBatch;
        uint64 lastBlock;
        uint64 lastFinalAt;
        uint32 reverts;
        bool paused;
    }

    // ------------------------------------------------------------ constants

    /// @notice Version of this contract's interface and of the hashes that it computes.
    uint32 public constant VERSION = 2;

    /// @notice May post batches.
    bytes32 public constant BATCHER_ROLE = keccak256("BATCHER_ROLE");
    /// @notice May commit posted batches.
    bytes32 public constant COMMITTER_ROLE = keccak256("COMMITTER_ROLE");
    /// @notice May pause, and revert commitments that are not final yet.
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

    /// @notice The most bytes of a forced transaction.
    uint256 public constant MAX_FORCED_BYTES = 32 * 1024;

    /// @dev Gas that `relayMessage` keeps for itself around a message's call.
    uint256 private constant RELAY_RESERVE = 50_000;

    // -------------------------------------------------------------- storage
    // The proxy's code can be changed, these slots cannot: new ones are added at the end.

    Queues private _queues;
    Heads private _heads;

    /// @notice What makes commitments final.
    IVerifier public verifier;

    /// @notice Chained hash of the posted batches by number: `batchHashes[n]` = keccak256(abi.encode(
    /// batchHashes[n - 1], header, keccak256(abi.encode(blobHashes)), keccak256(daPointer))); 0 for `n` = 0 and
    /// for a batch that is not posted.
    mapping(uint64 number => bytes32 hash) public batchHashes;

    /// @dev keccak256(abi.encode(Commitment)) by batch number; nonzero exactly while the commitment stands.
    mapping(uint64 number => bytes32 hash) private _commitmentHashes;

    /// @notice Chained hash of the first `count` entries of the queue: `depositAccumulator[i + 1]` = keccak256(abi.encode(
    /// depositAccumulator[i], entry)), from 0. The entry of a deposit is keccak256(abi.encode(i, from, to, value,
    /// gasLimit, keccak256(data))), that of a forced transaction keccak256(abi.encode(i, keccak256(transaction))).
    mapping(uint64 count => bytes32 hash) public depositAccumulator;

    /// @dev The L1 blocks in which the queue's entries came, six to a slot.
    mapping(uint64 sextuple => uint40[6] blocks) private _queuedAt;

    /// @notice What became of the messages, by their ids.
    mapping(bytes32 id => MessageStatus status) public messageStatus;

    /// @notice Bridges tokens. L2 knows it by `Predeploys.TOKEN_BRIDGE`.
    address public tokenBridge;
    /// @notice Chooses the verifier, and owns the proxy's admin.
    address public timelock;
    /// @notice Chain id of the rollup.
    uint64 public l2ChainId;
    /// @notice Seconds without a sign of life of the batcher after which anyone may post.
    uint64 public sequencerTimeout;
    /// @notice L1 blocks after which the queue's entries are overdue.
    uint64 public inclusionWindow;
    /// @notice Number of the L1 block in which this contract was deployed: event scans start here.
    uint64 public deployedAt;
    /// @notice Hash of L2 block 0.
    bytes32 public genesisHash;
    /// @notice State root of L2 block 0.
    bytes32 public genesisStateRoot;
    /// @notice keccak256 of the compressed genesis that `publishGenesis` takes.
    bytes32 public genesisDigest;

    /// @dev The sender, on L2, of the message that is being delivered.
    address private transient _messageSender;

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

    /// @notice A signed transaction of L2 has joined the queue.
    /// @param index Position in the queue, from 0.
    /// @param transaction What was queued, and should be an EIP-2718 transaction.
    /// @param accumulator `depositAccumulator[index + 1]`.
    event TransactionForced(uint64 indexed index, bytes transaction, bytes32 accumulator);

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

    /// @notice A sequencer has taken over: posts of earlier epochs are refused from now on.
    event EpochBegan(uint32 indexed epoch, address indexed batcher);

    /// @notice A batch has been committed, and its challenge window has begun.
    /// @param number Number of the batch.
    /// @param stateRoot State root after the batch.
    /// @param commitment What was committed; its hash is `commitmentHash(number)`.
    event BatchCommitted(uint64 indexed number, bytes32 indexed stateRoot, Commitment commitment);

    /// @notice The commitments to this batch and to all later ones no longer stand.
    /// @param fromBatch Number of the first batch whose commitment was reverted.
    event CommitmentsReverted(uint64 indexed fromBatch);

    /// @notice Later commitments are final when this verifier says so.
    event VerifierChosen(IVerifier indexed verifier);

    /// @notice A message was called.
    /// @param id Its id.
    /// @param delivered Whether the call succeeded; if not, `retryMessage` can repeat it.
    event MessageRelayed(bytes32 indexed id, bool delivered);

    /// @notice The guardian has stopped deposits and commitments.
    event Paused(address indexed guardian);
    /// @notice Deposits and commitments go on.
    event Unpaused(address indexed owner);

    // --------------------------------------------------------------- errors

    /// @notice A setting that has to be given is zero. `field` is its name in `Config`.
    error ConfigFieldZero(string field);
    /// @notice This is not the genesis that the chain was made with.
    error GenesisMismatch(bytes32 given, bytes32 expected);
    /// @notice Deposits and commitments are paused.
    error IsPaused();
    /// @notice Only the timelock may do this.
    error NotTheTimelock(address sender);
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
    /// @notice A forced transaction has some bytes, and no more than the limit.
    error ForcedBytesOutOfRange(uint256 length, uint256 limit);
    /// @notice The batch leaves out an entry of the queue that had to be taken up to L1 block `dueAt`.
    error EntryOverdue(uint64 index, uint256 dueAt);
    /// @notice Where anyone may post, what is posted has to be on L1: others' bytes might be nowhere.
    error DaKindNotOnL1(uint8 daKind);
    /// @notice The address holds no contract.
    error NotAContract(address account);
    /// @notice The sender does not hold `BATCHER_ROLE`, and the batcher has not been silent for long enough: until `openFrom`.
    error SequencerIsAlive(address sender, uint256 openFrom);
    /// @notice Another sequencer has taken over since: it posts now, and this one has to stop.
    error EpochOver(uint32 given, uint32 current);
    /// @notice Epochs follow one another; somebody else has begun this one.
    error EpochNotNext(uint32 given, uint32 expected);
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
    /// @notice The commitment is final, so it stays.
    error CommitmentIsFinal(uint64 number, uint256 finalAt);
    /// @notice The messages of a batch are relayed once its commitment is final.
    error CommitmentNotFinal(uint64 number, uint256 finalAt);
    /// @notice The message is not one of the batch's, or the proof is one of another message or batch.
    error MessageNotInBatch(bytes32 id, uint64 number);
    /// @notice A message is relayed once. If its call failed, `retryMessage` repeats it.
    error MessageRelayedBefore(bytes32 id, MessageStatus status);
    /// @notice The message's call has not failed, so there is nothing to repeat.
    error MessageNotFailed(bytes32 id, MessageStatus status);
    /// @notice The call failed again. It can be repeated.
    error MessageFailedAgain(bytes32 id);
    /// @notice Too little gas is left for the message's call: send more along.
    error RelayGasTooLow(uint256 left, uint256 needed);
    /// @notice This contract does not hold the message's ether. (On a chain whose genesis created ether, that can not leave.)
    error EtherNotHeld(uint256 value, uint256 held);
    /// @notice No message is being delivered.
    error NoMessage();

    // --------------------------------------------------------------- set-up

    /// @dev The code behind the proxy: never used by itself.
    constructor() {
        _disableInitializers();
    }

    /// @notice Makes the chain. Called once, by the proxy's constructor.
    /// @param config See `Config`; `ownerTransferDelay` may be zero, nothing else.
    function initialize(Config calldata config) external initializer {
        if (config.owner == address(0)) revert ConfigFieldZero("owner");
        if (config.batcher == address(0)) revert ConfigFieldZero("batcher");
        if (config.committer == address(0)) revert ConfigFieldZero("committer");
        if (config.guardian == address(0)) revert ConfigFieldZero("guardian");
        if (config.timelock == address(0)) revert ConfigFieldZero("timelock");
        if (address(config.verifier) == address(0)) revert ConfigFieldZero("verifier");
        if (config.tokenBridge == address(0)) revert ConfigFieldZero("tokenBridge");
        if (config.l2ChainId == 0) revert ConfigFieldZero("l2ChainId");
        if (config.sequencerTimeout == 0) revert ConfigFieldZero("sequencerTimeout");
        if (config.inclusionWindow == 0) revert ConfigFieldZero("inclusionWindow");
        if (config.genesisHash == 0) revert ConfigFieldZero("genesisHash");
        if (config.genesisStateRoot == 0) revert ConfigFieldZero("genesisStateRoot");
        if (config.genesisDigest == 0) revert ConfigFieldZero("genesisDigest");

        __AccessControlDefaultAdminRules_init(config.ownerTransferDelay, config.owner);
        _grantRole(BATCHER_ROLE, config.batcher);
        _grantRole(COMMITTER_ROLE, config.committer);
        _grantRole(GUARDIAN_ROLE, config.guardian);
        timelock = config.timelock;
        verifier = config.verifier;
        tokenBridge = config.tokenBridge;
        l2ChainId = config.l2ChainId;
        sequencerTimeout = config.sequencerTimeout;
        inclusionWindow = config.inclusionWindow;
        deployedAt = uint64(block.number);
        genesisHash = config.genesisHash;
        genesisStateRoot = config.genesisStateRoot;
        genesisDigest = config.genesisDigest;
        _queues.lastPostedAt = uint48(block.timestamp);
        emit VerifierChosen(config.verifier);
    }

    /// @notice Publishes the chain's genesis in an event. Anyone may, and repeat it.
    /// @param genesis zstd-compressed geth-format genesis JSON, of which `genesisDigest` is the hash.
    function publishGenesis(bytes calldata genesis) external {
        bytes32 digest = keccak256(genesis);
        if (digest != genesisDigest) revert GenesisMismatch(digest, genesisDigest);
        emit GenesisPublished(genesis);
    }

    /// @notice Chooses what makes later commitments final. Those that stand keep their time.
    function chooseVerifier(IVerifier chosen) external {
        if (msg.sender != timelock) revert NotTheTimelock(msg.sender);
        if (address(chosen).code.length == 0) revert NotAContract(address(chosen));
        verifier = chosen;
        emit VerifierChosen(chosen);
    }

    /// @notice Stops deposits and commitments. Posts and forced transactions go on, and so does the relaying of messages of
    /// batches that are, or become, final: the guardian cannot hold those back.
    function pause() external onlyRole(GUARDIAN_ROLE) {
        _setPaused(true);
        emit Paused(msg.sender);
    }

    /// @notice Lets deposits and commitments go on.
    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setPaused(false);
        emit Unpaused(msg.sender);
    }

    function _setPaused(bool paused_) private {
        _queues.paused = paused_;
        _heads.paused = paused_;
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
        Queues memory queues = _queues;
        if (queues.paused) revert IsPaused();
        address from = _senderOnL2();

        uint64 index = queues.depositCount;
        bytes32 entry = keccak256(abi.encode(index, from, to, msg.value, gasLimit, keccak256(data)));
        bytes32 accumulator = _queue(index, entry);
        emit DepositQueued(index, from, to, msg.value, gasLimit, data, accumulator);
    }

    /// @notice Queues a signed transaction of L2, so that no sequencer can leave it out: once it is overdue, no batch is
    /// taken without it. Anyone may, whoever has signed it. If it is not valid where it is executed (its nonce,
    /// what its sender can pay, its fee), it is passed over.
    /// @param transaction An EIP-2718 transaction, `MAX_FORCED_BYTES` at most.
    function forceTransaction(bytes calldata transaction) external {
        if (transaction.length == 0 || transaction.length > MAX_FORCED_BYTES) {
            revert ForcedBytesOutOfRange(transaction.length, MAX_FORCED_BYTES);
        }
        uint64 index = _queues.depositCount;
        bytes32 accumulator = _queue(index, keccak256(abi.encode(index, keccak256(transaction))));
        emit TransactionForced(index, transaction, accumulator);
    }

    function _queue(uint64 index, bytes32 entry) private returns (bytes32 accumulator) {
        accumulator = keccak256(abi.encode(depositAccumulator[index], entry));
        _queues.depositCount = index + 1;
        depositAccumulator[index + 1] = accumulator;
        _queuedAt[index / 6][index % 6] = uint40(block.number);
    }

    function _senderOnL2() private view returns (address) {
        // A caller that is also the origin has a key, and with it the same account on L2, whether or not it has
        // delegated its code (EIP-7702).
        if (msg.sender == tx.origin) return msg.sender;
        return AddressAlias.ofContract(msg.sender == tokenBridge ? Predeploys.TOKEN_BRIDGE : msg.sender);
    }

    // -------------------------------------------------------------- batches

    /// @notice Makes this caller's epoch the one that posts: a sequencer that takes over begins with it, so that the one
    /// before it, should it still be alive, posts no more.
    /// A sign of life, too: it ends the time in which anyone may post.
    /// @param next The epoch to begin, which is the current one plus one.
    function beginEpoch(uint32 next) external onlyRole(BATCHER_ROLE) {
        Queues memory queues = _queues;
        uint32 expected = queues.epoch + 1;
        if (next != expected) revert EpochNotNext(next, expected);
        queues.epoch = next;
        queues.lastPostedAt = uint48(block.timestamp);
        _queues = queues;
        emit EpochBegan(next, msg.sender);
    }

    /// @notice Records a batch under the hashes of the blobs that came with it.
    /// @dev Blocks of batches posted one after another need not join: derivation skips a batch that does not
    /// continue the chain, and `commitBatch` takes none that does not.
    /// @param epoch The caller's epoch. Of no meaning where anyone may post, since the batcher has been silent.
    /// @param header What the batch says about itself.
    /// @param daPointer Where its bytes are. May be empty for blobs alone.
    function postBatch(uint32 epoch, BatchHeader calldata header, bytes calldata daPointer) external {
        Queues memory queues = _queues;
        if (hasRole(BATCHER_ROLE, msg.sender)) {
            if (epoch != queues.epoch) revert EpochOver(epoch, queues.epoch);
            queues.lastPostedAt = uint48(block.timestamp);
        } else {
            // Anyone's posts do not move the time, so that they shut nobody else out.
            uint256 openFrom = uint256(queues.lastPostedAt) + sequencerTimeout;
            if (block.timestamp < openFrom) revert SequencerIsAlive(msg.sender, openFrom);
            if (header.daKind > DA_L1_CALLDATA) revert DaKindNotOnL1(header.daKind);
        }
        uint64 number = header.number;
        if (number != queues.batchCount + 1) revert UnexpectedBatchNumber(number, queues.batchCount + 1);
        if (header.lastBlock < header.firstBlock) revert EmptyBlockRange(header.firstBlock, header.lastBlock);
        _checkDeposits(header.depositsEnd, header.depositsHash, queues.depositCount);
        bytes32[] memory blobHashes = _checkedBlobHashes(header.daKind, daPointer.length);

        bytes32 batchHash = keccak256(
            abi.encode(batchHashes[number - 1], header, keccak256(abi.encode(blobHashes)), keccak256(daPointer))
        );
        batchHashes[number] = batchHash;
        queues.batchCount = number;
        _queues = queues;
        emit BatchPosted(number, header.digest, batchHash, header, blobHashes, daPointer);
    }

    function _checkDeposits(uint64 depositsEnd, bytes32 depositsHash, uint64 queued) private view {
        if (depositsEnd > queued) revert DepositsNotQueued(depositsEnd, queued);
        bytes32 expected = depositAccumulator[depositsEnd];
        if (depositsHash != expected) revert DepositsHashMismatch(depositsEnd, depositsHash, expected);
        if (depositsEnd < queued) {
            uint256 dueAt = queuedAt(depositsEnd) + inclusionWindow;
            if (block.number > dueAt) revert EntryOverdue(depositsEnd, dueAt);
        }
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
    /// @dev Only the committer may, unless the verifier takes proofs from anyone.
    /// @param number Number of the batch, after the last committed one.
    /// @param batchHash `batchHashes[number]`, so that nothing is committed for a batch which an L1 reorg replaced.
    /// @param firstBlock First L2 block of the batch: the one after the last committed block.
    /// @param lastBlock Last L2 block of the batch, inclusive.
    /// @param lastBlockHash Hash of `lastBlock`.
    /// @param stateRoot State root after `lastBlock`.
    /// @param messageRoot Merkle root over the L2-to-L1 messages of this batch's blocks; zero if there are none.
    /// @param proof What the verifier asks for.
    function commitBatch(
        uint64 number,
        bytes32 batchHash,
        uint64 firstBlock,
        uint64 lastBlock,
        bytes32 lastBlockHash,
        bytes32 stateRoot,
        bytes32 messageRoot,
        bytes calldata proof
    ) external {
        Heads memory heads = _heads;
        if (heads.paused) revert IsPaused();
        uint64 previous = heads.lastBatch;
        if (number <= previous) revert BatchNotAfterLastCommitted(number, previous);
        bytes32 posted = batchHashes[number];
        if (posted == 0 || batchHash != posted) revert BatchHashMismatch(number, batchHash, posted);
        if (firstBlock != heads.lastBlock + 1) revert BlocksNotContiguous(firstBlock, heads.lastBlock + 1);
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
            committedAt: uint64(block.timestamp),
            finalAt: 0
        });
        IVerifier checkedBy = verifier;
        if (!hasRole(COMMITTER_ROLE, msg.sender) && !checkedBy.anyoneMayCommit()) {
            revert AccessControlUnauthorizedAccount(msg.sender, COMMITTER_ROLE);
        }
        uint256 time = block.timestamp + uint256(checkedBy.verify(commitment, heads.reverts, proof));
        uint64 finalAt = time > type(uint64).max ? type(uint64).max : uint64(time);
        // What comes before a final commitment is final too, or reverting it would take the final one along.
        if (finalAt < heads.lastFinalAt) finalAt = heads.lastFinalAt;
        commitment.finalAt = finalAt;

        _commitmentHashes[number] = keccak256(abi.encode(commitment));
        heads.lastBatch = number;
        heads.lastBlock = lastBlock;
        heads.lastFinalAt = finalAt;
        _heads = heads;
        emit BatchCommitted(number, stateRoot, commitment);
    }

    /// @notice Takes back the newest commitments, none of which is final yet; the blocks can then be committed again.
    /// @dev Costs about 5,000 gas for each commitment. More of them than fit a transaction are reverted newest
    /// part first.
    /// @param firstReverted The oldest commitment to revert. Later ones are not final earlier, so none of them is final either.
    /// @param newLast The commitment directly before it, which becomes the last one; `number` 0 if there is none.
    function revertCommitments(Commitment calldata firstReverted, Commitment calldata newLast)
        external
        onlyRole(GUARDIAN_ROLE)
    {
        uint64 fromBatch = firstReverted.number;
        _checkStands(firstReverted);
        if (block.timestamp >= firstReverted.finalAt) revert CommitmentIsFinal(fromBatch, firstReverted.finalAt);
        if (firstReverted.previous != newLast.number) {
            revert CommitmentsNotAdjacent(firstReverted.previous, newLast.number);
        }
        Heads memory heads = _heads;
        for (uint64 number = fromBatch; number <= heads.lastBatch; ++number) {
            delete _commitmentHashes[number];
        }
        heads.reverts += 1;
        heads.lastBatch = newLast.number;
        if (newLast.number == 0) {
            heads.lastBlock = 0;
            heads.lastFinalAt = 0;
        } else {
            _checkStands(newLast);
            heads.lastBlock = newLast.lastBlock;
            heads.lastFinalAt = newLast.finalAt;
        }
        _heads = heads;
        emit CommitmentsReverted(fromBatch);
    }

    function _checkStands(Commitment calldata commitment) private view {
        bytes32 stored = _commitmentHashes[commitment.number];
        if (stored != keccak256(abi.encode(commitment))) revert CommitmentUnknown(commitment.number, stored);
    }

    // ------------------------------------------------------------- messages

    /// @notice Delivers a message from L2: calls its target, with its value, once. Anyone may do it, also while the
    /// contract is paused.
    /// @dev The call has the message's gas limit at least. If it fails, the message stays owed, and `retryMessage`
    /// repeats the call without a proof.
    /// @param commitment The final commitment to the batch whose blocks sent it.
    /// @param message The message.
    /// @param proof Its siblings on the way to `commitment.messageRoot`, from below; the leaf is keccak256(id), and a
    /// node without a sibling moves up as it is.
    function relayMessage(Commitment calldata commitment, Message calldata message, bytes32[] calldata proof)
        external
        nonReentrant
    {
        bytes32 id = messageId(message);
        MessageStatus status = messageStatus[id];
        if (status != MessageStatus.None) revert MessageRelayedBefore(id, status);
        _checkStands(commitment);
        if (block.timestamp < commitment.finalAt) revert CommitmentNotFinal(commitment.number, commitment.finalAt);
        bytes32 leaf = keccak256(abi.encode(id));
        if (!MerkleProof.verifyCalldata(proof, commitment.messageRoot, leaf)) {
            revert MessageNotInBatch(id, commitment.number);
        }
        if (!_deliver(id, message)) messageStatus[id] = MessageStatus.Failed;
    }

    /// @notice Repeats the call of a message that has failed. Anyone may do it.
    /// @dev Reverts if the call fails again, so that nothing changes.
    function retryMessage(Message calldata message) external nonReentrant {
        bytes32 id = messageId(message);
        MessageStatus status = messageStatus[id];
        if (status != MessageStatus.Failed) revert MessageNotFailed(id, status);
        if (!_deliver(id, message)) revert MessageFailedAgain(id);
    }

    /// @dev Marked as delivered before the call: whatever the target does, it is not paid twice.
    function _deliver(bytes32 id, Message calldata message) private returns (bool delivered) {
        messageStatus[id] = MessageStatus.Delivered;
        if (message.value > address(this).balance) revert EtherNotHeld(message.value, address(this).balance);
        address target = message.target == Predeploys.TOKEN_BRIDGE ? tokenBridge : message.target;
        // A call gets 63/64 of what is left (EIP-150).
        uint256 needed = uint256(message.gasLimit) * 64 / 63 + RELAY_RESERVE;
        bytes memory data = message.data;
        if (gasleft() < needed) revert RelayGasTooLow(gasleft(), needed);
        _messageSender = message.sender;
        // What the target returns is not looked at, and not copied either, however long it is.
        delivered = target != address(this) && LowLevelCall.callNoReturn(target, message.value, data);
        _messageSender = address(0);
        emit MessageRelayed(id, delivered);
    }

    /// @notice The id of a message, under which L2 recorded it.
    function messageId(Message calldata message) public pure returns (bytes32) {
        return keccak256(
            abi.encode(message.nonce, message.sender, message.target, message.value, message.gasLimit, message.data)
        );
    }

    /// @notice Who sent the message on L2 that is being delivered: for contracts that such a message calls.
    function messageSender() external view returns (address sender) {
        sender = _messageSender;
        if (sender == address(0)) revert NoMessage();
    }

    // ---------------------------------------------------------------- views

    /// @notice Whether the commitment stands and is final: from `finalAt` on, that second included, in which it can no
    /// longer be reverted.
    function isFinal(Commitment calldata commitment) external view returns (bool) {
        return _commitmentHashes[commitment.number] == keccak256(abi.encode(commitment))
            && block.timestamp >= commitment.finalAt;
    }

    /// @notice keccak256(abi.encode(Commitment)) of the commitment to a batch; 0 if none stands.
    function commitmentHash(uint64 number) external view returns (bytes32) {
        return _commitmentHashes[number];
    }

    /// @notice Number of posted batches, which is also the number of the last one.
    function batchCount() external view returns (uint64) {
        return _queues.batchCount;
    }

    /// @notice L1 block in which an entry of the queue came.
    function queuedAt(uint64 index) public view returns (uint256) {
        return _queuedAt[index / 6][index % 6];
    }

    /// @notice Number of entries in the queue, deposits and forced transactions.
    function depositCount() external view returns (uint64) {
        return _queues.depositCount;
    }

    /// @notice The epoch whose posts are taken.
    function currentEpoch() external view returns (uint32) {
        return _queues.epoch;
    }

    /// @notice How often commitments were reverted.
    function revertCount() external view returns (uint32) {
        return _heads.reverts;
    }

    /// @notice L1 timestamp, in seconds, of the batcher's last sign of life.
    function lastPostedAt() external view returns (uint64) {
        return _queues.lastPostedAt;
    }

    /// @notice Whether deposits and commitments are stopped.
    function paused() external view returns (bool) {
        return _queues.paused;
    }

    /// @notice Number of the last committed batch; 0 if there is none.
    function lastCommittedBatch() external view returns (uint64) {
        return _heads.lastBatch;
    }

    /// @notice The last L2 block that a commitment covers; 0, the genesis block, if there is none.
    function lastCommittedBlock() external view returns (uint64) {
        return _heads.lastBlock;
    }
}
