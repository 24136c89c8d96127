package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.FirstTokenException

/**
 * Token texts by id and ids by text.
 *
 * An open-addressing table of ids instead of a `HashMap<String, Int>`: no boxed number and no entry object for each of 150,000 tokens.
 */
internal class Vocabulary {
    private var texts = arrayOfNulls<String>(1 shl 12)
    private var slots = IntArray(1 shl 13) // id + 1; 0 is free
    private var hashes = IntArray(1 shl 13) // of the texts, so that a probe looks at few texts
    private var count = 0

    /** The highest id plus one. */
    var size = 0
        private set

    /** Raises [FirstTokenException] for an id out of bounds or given twice. */
    fun add(text: String, id: Int) {
        if (id !in 0 until MOST) throw FirstTokenException("$TOKENIZER_FILE: token '$text' has id $id; expected 0 to ${MOST - 1}")
        if (id >= texts.size) texts = texts.copyOf(maxOf(id + 1, texts.size * 2))
        if (texts[id] != null) throw FirstTokenException("$TOKENIZER_FILE: tokens '${texts[id]}' and '$text' have the same id $id; the file is damaged, copy it again")
        if (count * 2 >= slots.size) grow()
        val hash = spread(text.hashCode())
        val place = place(text, hash)
        if (slots[place] != 0) throw FirstTokenException("$TOKENIZER_FILE: token '$text' is given twice; the file is damaged, copy it again")
        slots[place] = id + 1
        hashes[place] = hash
        texts[id] = text
        size = maxOf(size, id + 1)
        count++
    }

    fun text(id: Int): String? = if (id in 0 until size) texts[id] else null

    /** The id of [text], or -1. */
    fun id(text: String): Int = slots[place(text, spread(text.hashCode()))] - 1

    /** Whether token [id] is [left] and [right] together. */
    fun isJoined(id: Int, left: String, right: String): Boolean {
        val text = text(id) ?: return false
        return text.length == left.length + right.length && text.startsWith(left) && text.endsWith(right)
    }

    /** Where [text] is, or the free slot where it would be. */
    private fun place(text: String, hash: Int): Int {
        var place = hash and (slots.size - 1)
        while (slots[place] != 0 && !(hashes[place] == hash && texts[slots[place] - 1] == text)) place = (place + 1) and (slots.size - 1)
        return place
    }

    private fun grow() {
        val (oldSlots, oldHashes) = slots to hashes
        slots = IntArray(oldSlots.size * 4)
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
