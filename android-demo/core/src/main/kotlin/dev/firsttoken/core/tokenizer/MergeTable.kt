package dev.firsttoken.core.tokenizer

/** The merges by pair of token ids: rank (lower goes first) and the token that the pair becomes. Open addressing, no boxed numbers. */
internal class MergeTable {
    private var keys = LongArray(1 shl 13) // pair + 1; 0 is free
    private var ranks = IntArray(1 shl 13)
    private var products = IntArray(1 shl 13)

    var size = 0
        private set

    /** A pair that is given again takes the later rank, as in Hugging Face tokenizers. */
    fun add(left: Int, right: Int, rank: Int, product: Int) {
        if (size * 4L > keys.size * 3L) grow() // three quarters full: half the memory, hardly longer probes
        val place = place(left, right)
        if (keys[place] == 0L) size++
        put(place, key(left, right), rank, product)
    }

    /** The place of a pair, for [rank] and [product], or -1. */
    fun find(left: Int, right: Int): Int = place(left, right).let { if (keys[it] == 0L) -1 else it }

    fun rank(place: Int) = ranks[place]

    fun product(place: Int) = products[place]

    private fun key(left: Int, right: Int) = ((left.toLong() shl 32) or right.toLong()) + 1

    private fun place(left: Int, right: Int): Int = place(key(left, right))

    private fun place(key: Long): Int {
        val mask = keys.size - 1
        var place = (key * -0x61c8864680b583ebL ushr 40).toInt() and mask
        while (keys[place] != 0L && keys[place] != key) place = (place + 1) and mask
        return place
    }

    private fun put(place: Int, key: Long, rank: Int, product: Int) {
        keys[place] = key
        ranks[place] = rank
        products[place] = product
    }

    private fun grow() {
        val (oldKeys, oldRanks, oldProducts) = Triple(keys, ranks, products)
        keys = LongArray(oldKeys.size * 2)
        ranks = IntArray(keys.size)
        products = IntArray(keys.size)
        for (old in oldKeys.indices) if (oldKeys[old] != 0L) put(place(oldKeys[old]), oldKeys[old], oldRanks[old], oldProducts[old])
    }
}
