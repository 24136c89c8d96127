package dev.firsttoken.core.tokenizer

/** How a character that is no token of its own is written. */
internal class Unknown(val id: Int, val fuse: Boolean)

/**
 * Byte-pair encoding of one pre-token (Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016), with the
 * choices of Hugging Face tokenizers: lowest rank first, then leftmost.
 *
 * [byteLevel] takes the word as bytes in GPT-2's alphabet; else it is taken as characters, those that are no token as bytes
 * `<0x00>`…`<0xFF>` ([byteFallback]) or as [unknown], or left out. [wholeWords] takes a word that is a token as it is (`ignore_merges`).
 */
internal class BytePairEncoder(
    private val vocabulary: Vocabulary,
    private val merges: MergeTable,
    private val byteLevel: Boolean,
    private val byteFallback: Boolean,
    private val wholeWords: Boolean,
    private val unknown: Unknown?,
) {
    private val byteTokens = IntArray(256) { vocabulary.id(if (byteLevel) ByteLevelAlphabet.character(it).toString() else "<0x%02X>".format(it)) }
    private val known = HashMap<String, IntArray>()

    /** Appends the tokens of [word] to [into]. Not for several threads at once. */
    fun encode(word: String, into: IntList) {
        if (word.length > LONGEST_KEPT) return into.addAll(tokens(word))
        val found = known[word] ?: tokens(word).also { if (known.size < MOST_KEPT) known[word] = it }
        into.addAll(found)
    }

    private fun tokens(word: String): IntArray {
        if (wholeWords) {
            val id = vocabulary.id(if (byteLevel) ByteLevelAlphabet.write(word) else word)
            if (id >= 0) return intArrayOf(id)
        }
        val symbols = IntList()
        if (byteLevel) bytes(word, symbols) else characters(word, symbols)
        return merge(symbols.toArray())
    }

    private fun bytes(word: String, symbols: IntList) {
        for (byte in word.toByteArray(Charsets.UTF_8)) {
            val id = byteTokens[byte.toInt() and 0xff]
            if (id >= 0) symbols.add(id) else unknown?.let { symbols.add(it.id) }
        }
    }

    private fun characters(word: String, symbols: IntList) {
        var wasUnknown = false
        var place = 0
        while (place < word.length) {
            val end = place + Character.charCount(word.codePointAt(place))
            val character = word.substring(place, end)
            val id = vocabulary.id(character)
            place = end
            if (id >= 0) {
                symbols.add(id)
                wasUnknown = false
            } else if (byteFallback && asBytes(character, symbols)) {
                wasUnknown = false
            } else if (unknown != null) {
                if (!(wasUnknown && unknown.fuse)) symbols.add(unknown.id)
                wasUnknown = true
            }
        }
    }

    private fun asBytes(character: String, symbols: IntList): Boolean {
        val ids = character.toByteArray(Charsets.UTF_8).map { byteTokens[it.toInt() and 0xff] }
        if (ids.any { it < 0 }) return false
        ids.forEach(symbols::add)
        return true
    }

    /** Merges in a linked list over [ids]; a place whose token went into the one before it holds -1. */
    private fun merge(ids: IntArray): IntArray {
        if (ids.size < 2) return ids
        val next = IntArray(ids.size) { it + 1 }
        val before = IntArray(ids.size) { it - 1 }
        val queue = MergeQueue(ids.size)

        fun offer(left: Int, right: Int) {
            if (left < 0 || right >= ids.size) return
            val place = merges.find(ids[left], ids[right])
            if (place >= 0) queue.push((merges.rank(place).toLong() shl 32) or left.toLong())
        }
        for (left in 0 until ids.size - 1) offer(left, left + 1)
        var count = ids.size
        while (!queue.isEmpty()) {
            val entry = queue.pop()
            val left = (entry and 0xffffffffL).toInt()
            val right = next[left]
            if (ids[left] < 0 || right >= ids.size) continue
            val place = merges.find(ids[left], ids[right])
            if (place < 0 || merges.rank(place) != (entry ushr 32).toInt()) continue // the pair has changed since
            ids[left] = merges.product(place)
            ids[right] = -1
            next[left] = next[right]
            if (next[left] < ids.size) before[next[left]] = left
            count--
            offer(before[left], left)
            offer(left, next[left])
        }
        val merged = IntArray(count)
        var written = 0
        for (id in ids) if (id >= 0) merged[written++] = id
        return merged
    }

    private companion object {
        const val MOST_KEPT = 10_000 // words whose tokens are remembered
        const val LONGEST_KEPT = 64 // characters; longer ones hardly come again
    }
}
