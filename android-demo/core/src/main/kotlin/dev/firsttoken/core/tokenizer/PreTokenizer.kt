package dev.firsttoken.core.tokenizer

/** Cuts text into the pieces that byte-pair encoding never merges across. [atStart] says that [text] begins the whole text. */
internal fun interface PreTokenizer {
    fun split(text: String, atStart: Boolean): List<String>
}

/** One after another, each on the pieces of the one before. */
internal class SplitSequence(private val steps: List<PreTokenizer>) : PreTokenizer {
    override fun split(text: String, atStart: Boolean): List<String> =
        steps.fold(listOf(text)) { pieces, step ->
            if (pieces.size == 1) step.split(pieces[0], atStart) else pieces.flatMapIndexed { place, piece -> step.split(piece, atStart && place == 0) }
        }
}

/** What happens to what a pattern matches, by the names of `tokenizer.json`. */
internal enum class SplitBehavior { Isolated, Removed, Contiguous, MergedWithPrevious, MergedWithNext }

/** Splits at the matches of [pattern], or with [invert] at what lies between them. */
internal class PatternSplit(private val pattern: TextPattern, private val behavior: SplitBehavior, private val invert: Boolean) : PreTokenizer {
    override fun split(text: String, atStart: Boolean): List<String> {
        val ends = IntList()
        val kinds = IntList() // 1: a match
        var end = 0

        fun cut(until: Int, match: Boolean) {
            if (until == end) return
            ends.add(until)
            kinds.add(if (match != invert) 1 else 0)
            end = until
        }
        pattern.each(text) { from, to ->
            cut(from, false)
            cut(to, true)
        }
        cut(text.length, false)
        return join(text, ends.toArray(), kinds.toArray())
    }

    private fun join(text: String, ends: IntArray, kinds: IntArray): List<String> {
        val pieces = ArrayList<String>(ends.size)
        var start = 0
        for (place in ends.indices) {
            if (!goesOn(kinds, place)) {
                if (!(behavior == SplitBehavior.Removed && kinds[place] == 1)) pieces.add(text.substring(start, ends[place]))
                start = ends[place]
            }
        }
        return pieces
    }

    /** Whether the piece at [place] and the next one stay together. */
    private fun goesOn(kinds: IntArray, place: Int): Boolean {
        val next = kinds.getOrNull(place + 1) ?: return false
        return when (behavior) {
            SplitBehavior.Isolated, SplitBehavior.Removed -> false
            SplitBehavior.Contiguous -> kinds[place] == next
            SplitBehavior.MergedWithPrevious -> kinds[place] == 0 && next == 1
            SplitBehavior.MergedWithNext -> kinds[place] == 1 && next == 0
        }
    }
}

/** A space before text that has none. */
internal object PrefixSpace : PreTokenizer {
    override fun split(text: String, atStart: Boolean) = listOf(if (text.startsWith(' ')) text else " $text")
}

internal enum class PrependScheme { always, first, never }

/** SentencePiece's way: spaces become [replacement], one goes before the text, and with [cut] each begins a piece. */
internal class MetaspaceSplit(private val replacement: Char, private val prepend: PrependScheme, private val cut: Boolean) : PreTokenizer {
    override fun split(text: String, atStart: Boolean): List<String> {
        val written = text.replace(' ', replacement)
        val wanted = prepend == PrependScheme.always || (prepend == PrependScheme.first && atStart)
        val whole = if (wanted && !written.startsWith(replacement)) replacement + written else written
        if (!cut) return listOf(whole)
        val pieces = ArrayList<String>()
        var start = 0
        for (place in 1 until whole.length) {
            if (whole[place] == replacement) {
                pieces.add(whole.substring(start, place))
                start = place
            }
        }
        if (start < whole.length) pieces.add(whole.substring(start))
        return pieces
    }
}
