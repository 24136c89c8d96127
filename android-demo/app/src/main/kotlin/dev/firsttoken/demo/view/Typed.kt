package dev.firsttoken.demo.view

import dev.firsttoken.core.FirstTokenException

/** Numbers that were typed; each raises [FirstTokenException] saying what was got and what is expected. */
object Typed {
    fun whole(what: String, text: String, range: IntRange): Int = whole(what, text, range.first.toLong()..range.last.toLong()).toInt()

    fun whole(what: String, text: String, range: LongRange): Long =
        text.trim().toLongOrNull()?.takeIf { it in range } ?: throw refusal(what, text, "${range.first} to ${range.last}")

    /** With a point or a comma. */
    fun decimal(what: String, text: String, range: ClosedFloatingPointRange<Double>): Double =
        text.trim().replace(',', '.').toDoubleOrNull()?.takeIf { it in range } ?: throw refusal(what, text, "${range.start} to ${range.endInclusive}")

    private fun refusal(what: String, text: String, expected: String) = FirstTokenException("$what is '${text.trim().take(20)}'; expected $expected")
}
