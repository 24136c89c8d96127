package dev.firsttoken.demo.measure

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.demo.view.Typed

/** What is measured of every chosen bundle. */
class MeasureOptions(val bundles: List<String>, val lengths: List<Int>, val repeat: Int, val decodeTokens: Int, val threads: Int, val isCold: Boolean) {
    companion object {
        /** Reads what was typed. Raises [FirstTokenException] with what is wrong. */
        fun parse(bundles: List<String>, lengths: String, repeat: String, decodeTokens: String, threads: String, isCold: Boolean): MeasureOptions {
            if (bundles.isEmpty()) throw FirstTokenException("no bundle is chosen; choose at least one")
            val numbers = lengths.split(',', ' ', ';').filter { it.isNotBlank() }.map { Typed.whole("a prompt length", it, 1..(1 shl 20)) }.distinct()
            if (numbers.isEmpty() || numbers.size > 32) throw FirstTokenException("${numbers.size} prompt lengths; expected 1 to 32, such as 32, 128, 512")
            return MeasureOptions(bundles, numbers.sorted(), Typed.whole("the number of runs", repeat, 1..1000), Typed.whole("the tokens decoded", decodeTokens, 0..4096), Typed.whole("the number of threads", threads, 1..16), isCold)
        }
    }
}
