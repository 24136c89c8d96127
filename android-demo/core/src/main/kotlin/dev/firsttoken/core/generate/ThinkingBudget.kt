package dev.firsttoken.core.generate

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Chat
import dev.firsttoken.core.chat.Thinking
import dev.firsttoken.core.tokenizer.Tokenizer

/**
 * How long a reasoner may think (budget forcing: s1, arXiv:2501.19393), in tokens: thinking ends after [most], not before [least], and its first [ignore] ends are not taken.
 * [end] is the token that ends thinking, as text; [wait] goes in the place of an end that is not taken. As `Thinking` in python/firsttoken/run/thinking.py.
 */
data class ThinkingBounds(val most: Int? = null, val least: Int = 0, val ignore: Int = 0, val end: String = Thinking.END, val wait: String = "Wait") {
    /** The budget of one answer. Raises [FirstTokenException] for bounds that cannot be, and for a [chat] whose template ends thinking itself. */
    fun budget(tokenizer: Tokenizer, chat: Chat?): ThinkingBudget {
        if (most != null && least > most) throw FirstTokenException("at least $least tokens of thinking are more than at most $most; change one of the two in the settings")
        if (chat != null && end in chat.suffix.text) {
            throw FirstTokenException("the chat template writes '$end' before the answer, so there is no thinking to bound; empty its fields in the settings")
        }
        val tokens = tokenizer.encode(end, withBegin = false)
        if (tokens.size != 1) throw FirstTokenException("'$end' is ${tokens.size} tokens of this model, so the end of its thinking cannot be decided; empty the bounds on thinking in the settings")
        return ThinkingBudget(tokens.single(), tokenizer.encode(wait, withBegin = false).asList(), most, least, ignore)
    }
}

/** One answer's budget. */
class ThinkingBudget(val end: Int, private val wait: List<Int>, private val most: Int?, private val least: Int, private val ignore: Int) {
    private var thought = 0
    private var ignored = 0
    private var isOver = false
    private val forced = ArrayDeque<Int>()

    /** The next token, where the model would take [pick]'s: what was forced before comes first, and nothing is drawn for it. */
    fun next(stops: Set<Int>, pick: () -> Int): Int {
        if (forced.isEmpty()) {
            forced += given(pick(), stops)
            if (forced.isEmpty()) forced += given(end, emptySet()) // there was no room for the replacement: thinking ends here
        }
        return forced.removeFirst()
    }

    /** What takes the place of [sampled]. A stop while thinking counts as an end of thinking: the model must not leave before its budget either. */
    private fun given(sampled: Int, stops: Set<Int>): List<Int> {
        if (isOver) return listOf(sampled)
        val isFull = most != null && thought >= most
        val leaves = sampled == end || sampled in stops
        if (leaves && !isFull && (thought < least || ignored < ignore)) {
            ignored++
            val allowed = if (most == null) wait else wait.take(most - thought)
            thought += allowed.size
            return allowed
        }
        if (isFull || leaves) {
            isOver = true
            return listOf(if (isFull || sampled in stops) end else sampled)
        }
        thought++
        return listOf(sampled)
    }
}
