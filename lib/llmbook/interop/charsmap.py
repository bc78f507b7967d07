"""SentencePiece's table of replacements: which text stands for a character before anything is cut.

``tokenizers.normalizers.Precompiled`` takes it as one block of bytes: the length of a trie over UTF-8 bytes, the trie,
then the replacements, each ended by a zero byte. The trie is a double array (https://doi.org/10.1109/32.31365), a table
of 32-bit units. From the unit at ``p`` with offset ``o``, byte ``b`` leads to the unit at ``p ^ o ^ b``, which must
carry the label ``b``; a unit with a leaf has it at ``p ^ o``, and the leaf holds where the replacement begins:

    bits 0-7 label     bit 8 has a leaf     bits 10-31 offset        of a unit
    bits 0-30 where the replacement begins  bit 31 set               of a leaf
"""

from collections.abc import Mapping

import numpy as np

_BLOCK, _LEAF, _HAS_LEAF = 256, 1 << 31, 1 << 8


def charsmap(replacements: Mapping[str, str]) -> bytes:
    """The block of bytes for these replacements of single characters.

    Raises ValueError for a text in place of a character, and for the zero character, which the format cannot hold.
    """
    texts, root = bytearray(), {}
    for character, text in replacements.items():
        if len(character) != 1 or "\0" in character + text:
            raise ValueError(f"{character!r} → {text!r}: expected one character, and no zero")
        node = root
        for byte in character.encode():
            node = node.setdefault(byte, {})
        node[None] = len(texts)
        texts += text.encode() + b"\0"
    units = _double_array(root)
    return len(units).to_bytes(4, "little") + units + bytes(texts)


def _double_array(root: dict) -> bytes:
    """The trie as units; every node with children takes a block of its own, and leaves what blocks leave free.

    UTF-8 is a prefix code: a node has children or a leaf, never both.
    """
    inner, queue = [], [root]
    while queue:
        node = queue.pop()
        inner.append(node)
        queue += [child for byte, child in node.items() if byte is not None and None not in child]
    start = {id(node): (i + 1) * _BLOCK for i, node in enumerate(inner)}  # the first block holds the root alone
    n_leaves = sum(None in child for node in inner for child in node.values() if isinstance(child, dict))
    units = np.zeros((len(inner) + 1) * _BLOCK + n_leaves, dtype="<u4")
    taken = np.zeros(len(units), dtype=bool)
    taken[:_BLOCK] = True
    for node in inner:
        taken[[start[id(node)] ^ byte for byte in node]] = True
    free = iter(np.flatnonzero(~taken).tolist())
    units[0] = start[id(root)] << 10
    for node in inner:
        for byte, child in node.items():
            place = start[id(node)] ^ byte
            if None in child:
                leaf = next(free)
                units[place] = ((place ^ leaf) << 10) | _HAS_LEAF | byte
                units[leaf] = _LEAF | child[None]
            else:
                units[place] = ((place ^ start[id(child)]) << 10) | byte
    return units.tobytes()
