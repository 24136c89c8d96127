package dev.firsttoken.core.chat

/**
 * An answer's text in two: what the model thought before it answered, null where it did not, and the answer itself.
 *
 * [isOver]: no more thoughts come. [isBehindThoughts]: there is a token of the answer, and thoughts (maybe empty ones) before it.
 */
class ThoughtAndAnswer(val thought: String?, val answer: String, val isOver: Boolean, hasThoughts: Boolean) {
    val isBehindThoughts: Boolean = hasThoughts && answer.isNotEmpty()
}

/** Thoughts in an answer: what stands between `<think>` and `</think>` at its beginning, as Qwen3, DeepSeek-R1 and others write them. */
object Thinking {
    const val BEGIN = "<think>"
    const val END = "</think>"

    /**
     * Splits [text], the answer so far. [beginsInThought]: the template has written `<think>` already.
     *
     * While it may yet become `<think>`, a beginning such as `<thi` is neither thought nor answer.
     */
    fun split(text: String, beginsInThought: Boolean = false): ThoughtAndAnswer {
        val start = text.trimStart()
        val inside = when {
            start.startsWith(BEGIN) -> start.substring(BEGIN.length)
            beginsInThought -> text
            BEGIN.startsWith(start) -> return ThoughtAndAnswer(null, "", isOver = false, hasThoughts = false)
            else -> return ThoughtAndAnswer(null, text, isOver = true, hasThoughts = false)
        }
        val end = inside.indexOf(END)
        if (end < 0) return ThoughtAndAnswer(withoutHalfEnd(inside).trim(), "", isOver = false, hasThoughts = true)
        val thought = inside.substring(0, end).trim()
        return ThoughtAndAnswer(thought.ifEmpty { null }, inside.substring(end + END.length).trimStart(), isOver = true, hasThoughts = true)
    }

    /** [inside] without the beginning of an `</think>` that is still being written. */
    private fun withoutHalfEnd(inside: String): String {
        val length = (END.length - 1 downTo 1).firstOrNull { inside.endsWith(END.substring(0, it)) } ?: return inside
        return inside.dropLast(length)
    }
}
