package dev.firsttoken.demo.view

import java.util.Locale
import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.log10

/** Numbers as people read them; the same on every phone, as in the reports. */
object Numbers {
    fun bytes(count: Long): String =
        when {
            count >= 1L shl 30 -> format("%.2f GiB", count / (1 shl 30).toDouble())
            count >= 1L shl 20 -> format("%.1f MiB", count / (1 shl 20).toDouble())
            else -> format("%.0f KiB", count / 1024.0)
        }

    /** A large count, such as a model's parameters. */
    fun count(value: Long): String =
        when {
            value >= 1_000_000_000 -> format("%.2f billion", value / 1e9)
            value >= 1_000_000 -> format("%.1f million", value / 1e6)
            else -> value.toString()
        }

    fun milliseconds(nanoseconds: Double): String = (nanoseconds / 1e6).let { if (it < 10) format("%.2f ms", it) else if (it < 1000) format("%.0f ms", it) else format("%.2f s", it / 1000) }

    fun percent(share: Double): String = format("%.1f %%", 100 * share)

    /** Two significant digits. */
    fun significant(value: Double): String {
        if (value == 0.0 || !value.isFinite()) return value.toString()
        val decimals = (1 - floor(log10(abs(value))).toInt()).coerceIn(0, 9)
        return format("%.${decimals}f", value)
    }

    fun rate(perSecond: Double): String = format("%.1f", perSecond)

    private fun format(pattern: String, value: Double) = String.format(Locale.ROOT, pattern, value)
}
