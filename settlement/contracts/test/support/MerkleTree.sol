// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.37;

/// @dev The tree over a batch's messages, as proto/src/types/message.rs builds it: leaves are hashed ids, pairs are
/// hashed in sorted order, a node without a partner moves up as it is.
library MerkleTree {
    function root(bytes32[] memory ids) internal pure returns (bytes32) {
        if (ids.length == 0) return 0;
        bytes32[] memory level = leaves(ids);
        while (level.length > 1) level = _above(level);
        return level[0];
    }

    /// @dev The siblings of a leaf on its way to the root, from below.
    function proof(bytes32[] memory ids, uint256 index) internal pure returns (bytes32[] memory siblings) {
        bytes32[] memory path = new bytes32[](64);
        uint256 count = 0;
        bytes32[] memory level = leaves(ids);
        while (level.length > 1) {
            uint256 sibling = index ^ 1;
            if (sibling < level.length) path[count++] = level[sibling];
            index /= 2;
            level = _above(level);
        }
        siblings = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            siblings[i] = path[i];
        }
    }

    function leaves(bytes32[] memory ids) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            hashes[i] = keccak256(bytes.concat(ids[i]));
        }
    }

    function _above(bytes32[] memory level) private pure returns (bytes32[] memory above) {
        above = new bytes32[]((level.length + 1) / 2);
        for (uint256 i = 0; i < above.length; ++i) {
            above[i] = 2 * i + 1 < level.length ? _pair(level[2 * i], level[2 * i + 1]) : level[2 * i];
        }
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a <= b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
    }
}
