package dev.firsttoken.core.generate

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Chat
import dev.firsttoken.core.tokenizer.Tokenizer
import kotlin.math.abs

/** Prompts of an exact number of tokens, cut from real [text]; the same cuts as python/firsttoken/measure/prompts.py makes. */
class ExactPrompt(private val tokenizer: Tokenizer, private val chat: Chat?, private val text: String) {
    /** Returns text that gives exactly [tokens] tokens, template included. Raises [FirstTokenException] where no cut fits. */
    fun of(tokens: Int): String {
        val least = count("a")
        if (tokens < least) throw FirstTokenException("a prompt of $tokens tokens cannot be made: the shortest takes $least; ask for more")
        var source = text
        while (count(source) < tokens + NEIGHBOURHOOD) source += "\n" + source
        var start = 0
        repeat(STARTS) {
            cut(source.substring(start), tokens)?.let { return it }
            start = source.indexOf('\n', start) + 1
            if (start == 0 || start > source.length / 2) throw none(tokens)
        }
        throw none(tokens)
    }

    private fun none(tokens: Int) = FirstTokenException("no piece of the text gives exactly $tokens tokens with this bundle's tokenizer; ask for another number")

    private fun count(text: String) = encodePrompt(tokenizer, text, chat).size

    private fun cut(text: String, tokens: Int): String? {
        var low = 1
        var high = minOf(text.length, 64)
        while (count(text.take(high)) < tokens && high < text.length) {
            low = high
            high = minOf(2 * high, text.length)
        }
        while (low < high) {
            val middle = (low + high) / 2
            if (count(text.take(middle)) < tokens) low = middle + 1 else high = middle
        }
        // the count is not quite monotonic in the length, since a longer text may merge two tokens into one
        val near = maxOf(1, low - NEIGHBOURHOOD)..minOf(text.length, low + NEIGHBOURHOOD)
        return near.sortedBy { abs(it - low) }.map(text::take).firstOrNull { it.isNotBlank() && count(it) == tokens }
    }

    private companion object {
        const val STARTS = 50 // places of the text tried before giving up
        const val NEIGHBOURHOOD = 40 // characters around the length found by halving
    }
}
