package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.FirstTokenException

/**
 * Token texts by id and ids by text.
 *
 * All texts lie in one array of characters, and ids in an open-addressing table: no object for any of 150,000 tokens.
 */
internal class Vocabulary {
    private var characters = CharArray(1 shl 15)
    private var used = 0
    private var starts = IntArray(1 shl 12) // where the text of an id begins, plus one; 0: no token has the id
    private var ends = IntArray(1 shl 12)
    private var slots = IntArray(1 shl 13) // id + 1; 0 is free
    private var hashes = IntArray(1 shl 13) // of the texts, so that a probe looks at few texts
    private var count = 0

    /** The highest id plus one. */
    var size = 0
        private set

    /** Raises [FirstTokenException] for an id out of bounds or given twice. */
    fun add(text: String, id: Int) {
        if (id !in 0 until MOST) throw FirstTokenException("$TOKENIZER_FILE: token '$text' has id $id; expected 0 to ${MOST - 1}")
        if (id >= starts.size) maxOf(id + 1, starts.size * 2).let { more -> starts = starts.copyOf(more); ends = ends.copyOf(more) }
        if (starts[id] != 0) throw FirstTokenException("$TOKENIZER_FILE: tokens '${text(id)}' and '$text' have the same id $id; the file is damaged, copy it again")
        if (count * 2 >= slots.size) grow()
        val hash = spread(text.hashCode())
        val place = place(text, hash)
        if (slots[place] != 0) throw FirstTokenException("$TOKENIZER_FILE: token '$text' is given twice; the file is damaged, copy it again")
        slots[place] = id + 1
        hashes[place] = hash
        keep(text, id)
        size = maxOf(size, id + 1)
        count++
    }

    fun text(id: Int): String? = if (id in 0 until size && starts[id] != 0) String(characters, starts[id] - 1, ends[id] - starts[id] + 1) else null

    /** The id of [text], or -1. */
    fun id(text: String): Int = slots[place(text, spread(text.hashCode()))] - 1

    /** Whether token [id] is [left] and [right] together. */
    fun isJoined(id: Int, left: String, right: String): Boolean {
        if (id !in 0 until size || starts[id] == 0) return false
        val start = starts[id] - 1
        return ends[id] - start == left.length + right.length && holds(start, left) && holds(start + left.length, right)
    }

    private fun keep(text: String, id: Int) {
        if (used + text.length > characters.size) characters = characters.copyOf(maxOf(used + text.length, characters.size / 2 * 3))
        text.toCharArray(characters, used)
        starts[id] = used + 1
        used += text.length
        ends[id] = used
    }

    /** Whether [text] stands at [start]. */
    private fun holds(start: Int, text: String): Boolean {
        for (index in text.indices) if (characters[start + index] != text[index]) return false
        return true
    }

    private fun isText(id: Int, text: String) = ends[id] - starts[id] + 1 == text.length && holds(starts[id] - 1, text)

    /** Where [text] is, or the free slot where it would be. */
    private fun place(text: String, hash: Int): Int {
        var place = hash and (slots.size - 1)
        while (slots[place] != 0 && !(hashes[place] == hash && isText(slots[place] - 1, text))) place = (place + 1) and (slots.size - 1)
        return place
    }

    private fun grow() {
        val (oldSlots, oldHashes) = slots to hashes
        slots = IntArray(oldSlots.size * 2)
        hashes = IntArray(slots.size)
        for (old in oldSlots.indices) {
            if (oldSlots[old] == 0) continue
            var place = oldHashes[old] and (slots.size - 1)
            while (slots[place] != 0) place = (place + 1) and (slots.size - 1)
            slots[place] = oldSlots[old]
            hashes[place] = oldHashes[old]
        }
    }

    private fun spread(hash: Int) = (hash * -0x61c88647).let { it xor (it ushr 15) }

    companion object {
        /** No vocabulary comes near; a larger id would only make an array of that length. */
        const val MOST = 1 shl 22
    }
}
