package dev.firsttoken.core.tokenizer

import java.util.concurrent.ConcurrentHashMap

/** A set of characters: [bounds] are where it begins and ends by turns, ascending, each end excluded. */
internal class CodePoints private constructor(val bounds: IntArray) {
    operator fun contains(point: Int): Boolean {
        val found = bounds.binarySearch(point)
        return if (found >= 0) found % 2 == 0 else (-found - 1) % 2 == 1 // between a begin and its end
    }

    fun complement(): CodePoints {
        val inside = bounds.filter { it != 0 && it != END }.toMutableList()
        if (bounds.firstOrNull() != 0) inside.add(0, 0)
        if (bounds.lastOrNull() != END) inside.add(END)
        return CodePoints(inside.toIntArray())
    }

    companion object {
        const val END = 0x110000

        fun of(vararg ranges: IntRange): CodePoints = union(ranges.map { CodePoints(intArrayOf(it.first, it.last + 1)) })

        /** The set of what is in any of [sets]. */
        fun union(sets: List<CodePoints>): CodePoints {
            if (sets.size == 1) return sets[0]
            // every place where a set begins or ends, with +1 or -1: in the union is what has more begins before it than ends
            val changes = sets.flatMap { set -> set.bounds.mapIndexed { place, bound -> bound * 2L + place % 2 } }.sorted() // begins before ends
            val out = IntList()
            var open = 0
            for (change in changes) {
                val isEnd = change % 2 == 1L
                if (!isEnd && open == 0) out.add((change / 2).toInt())
                open += if (isEnd) -1 else 1
                if (isEnd && open == 0) out.add((change / 2).toInt())
            }
            return CodePoints(out.toArray())
        }

        /** The set of a general category (`Lu`), or of all those that begin with its letter (`L`); null for a name that is none. */
        fun category(name: String): CodePoints? {
            known[name]?.let { return it }
            val wanted = categoryNames.indices.filter { categoryNames[it].startsWith(name) }
            if (wanted.isEmpty()) return null
            val (starts, kinds) = runs
            val bounds = IntList()
            for (place in starts.indices) { // runs follow one another, so neighbours are joined here
                val isIn = kinds[place] in wanted
                if (isIn != (bounds.size % 2 == 1)) bounds.add(starts[place])
            }
            if (bounds.size % 2 == 1) bounds.add(END)
            return CodePoints(bounds.toArray()).also { known[name] = it }
        }

        /** The set of a script's characters; null for a script that [UnicodeTables] leaves out. */
        fun script(name: String): CodePoints? =
            UnicodeTables.SCRIPTS.splitToSequence(';').firstOrNull { it.substringBefore(' ') == name }?.let { byTurns(it.substringAfter(' ')) }

        /** What Rust's `char::is_numeric` takes for a digit. */
        fun numeric(): CodePoints = byTurns(UnicodeTables.NUMERIC)

        private val known = ConcurrentHashMap<String, CodePoints>()
        private val categoryNames = UnicodeTables.NAMES.chunked(2)

        /** Where runs of one category begin, and the category's place among the names. */
        private val runs: Pair<IntArray, IntArray> by lazy {
            val starts = IntList()
            val kinds = IntList()
            var at = 0
            var place = 0
            val text = UnicodeTables.CATEGORIES
            while (place < text.length) {
                starts.add(at)
                kinds.add(text[place].let { if (it in 'A'..'Z') it - 'A' else it - 'a' + 26 })
                place++
                var length = 0
                while (place < text.length && text[place] in '0'..'9') length = length * 10 + (text[place++] - '0')
                at += maxOf(length, 1)
            }
            check(at == END) { "UnicodeTables ends at $at; write it again with scripts/unicode_tables.py" }
            starts.toArray() to kinds.toArray()
        }

        private fun byTurns(lengths: String): CodePoints {
            var at = 0
            return CodePoints(lengths.split(' ').map { length -> length.toInt().let { at += it; at } }.toIntArray())
        }
    }
}
