package dev.firsttoken.core.tokenizer

import java.util.regex.Pattern

/** What a text is split at. */
internal fun interface TextPattern {
    /** Calls [found] with begin and end of each match, from left to right. */
    fun each(text: String, found: (Int, Int) -> Unit)
}

/** A text that stands for itself. */
internal class LiteralPattern(content: String) : TextPattern {
    private val pattern = Pattern.compile(Pattern.quote(content))

    override fun each(text: String, found: (Int, Int) -> Unit) {
        val matcher = pattern.matcher(text)
        while (matcher.find()) found(matcher.start(), matcher.end())
    }
}

/** A regular expression over [alphabet]: it is matched with text that is written in it, one character for each. */
internal class CharacterPattern(private val pattern: Pattern, private val alphabet: SmallAlphabet) : TextPattern {
    override fun each(text: String, found: (Int, Int) -> Unit) {
        var from = 0
        while (from < text.length && text[from].code < SmallAlphabet.ASCII) from++
        if (from == text.length) return match(text, null, found)
        val written = CharArray(text.length)
        var starts: IntArray? = null // where each character begins in the text, once one of them takes two places
        text.toCharArray(written, 0, 0, from)
        var size = from
        var place = from
        while (place < text.length) {
            val point = text.codePointAt(place)
            if (point >= Character.MIN_SUPPLEMENTARY_CODE_POINT && starts == null) starts = IntArray(text.length + 1) { it }
            if (starts != null) starts[size] = place
            written[size++] = alphabet.write(point)
            place += Character.charCount(point)
        }
        if (starts != null) starts[size] = text.length
        match(String(written, 0, size), starts, found)
    }

    private fun match(written: String, starts: IntArray?, found: (Int, Int) -> Unit) {
        val matcher = pattern.matcher(written)
        while (matcher.find()) {
            if (starts == null) found(matcher.start(), matcher.end()) else found(starts[matcher.start()], starts[matcher.end()])
        }
    }
}
