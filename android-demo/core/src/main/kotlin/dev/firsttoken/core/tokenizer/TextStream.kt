package dev.firsttoken.core.tokenizer

/**
 * Turns tokens into text one at a time, holding back what is not yet a whole character.
 *
 * Two decoded spans are compared instead of decoding single tokens, because the text of a token depends on the ones before it
 * (SentencePiece drops the first space; a byte-level character may take four tokens). The same as `TextStream` in tokenizer.py.
 * Special tokens give no text, but for those in [shownSpecial].
 */
class TextStream(private val tokenizer: Tokenizer, private val shownSpecial: Set<Int> = emptySet()) {
    private var tokens = IntList(64) // from the start of the span that is decoded together with the next token
    private var shown = 0 // of those, how many have given out their text

    /** Adds a token and returns the text that is now complete (often the token's own, sometimes nothing). */
    fun add(token: Int): String {
        if (tokenizer.isSpecial(token) && token !in shownSpecial) return ""
        tokens.add(token)
        return advance(last = false)
    }

    /** Returns what was held back; bytes that never became a character come out as U+FFFD. */
    fun finish(): String = advance(last = true)

    private fun advance(last: Boolean): String {
        val all = tokens.toArray()
        val before = tokenizer.decode(all.copyOf(shown), withSpecial = true)
        val after = tokenizer.decode(all, withSpecial = true)
        // counted in characters, not in UTF-16 units: one U+FFFD may turn into a character of two units
        val length = before.codePointCount(0, before.length)
        val pending = all.size - shown
        if (after.codePointCount(0, after.length) <= length) return ""
        if (after.endsWith(Utf8.REPLACEMENT) && !last && pending <= MOST_PENDING) return ""
        tokens = IntList(64).also { it.addAll(all.copyOfRange(shown, all.size)) }
        shown = pending
        return after.substring(after.offsetByCodePoints(0, length))
    }

    private companion object {
        /** A character is at most 4 bytes of UTF-8; a replacement character older than that is really in the text. */
        const val MOST_PENDING = 4
    }
}
