package dev.firsttoken.demo.engine

internal const val MASKED = -30000f // as python/firsttoken/backends/runner.py has it

/**
 * The mask `[count, rows]` of [count] tokens from position [start] on over a ring of [length] rows, of which [rows] are passed, as
 * python/firsttoken/backends/ring.py makes it: row r holds the last position below [filled] that is r modulo [length], if there is one;
 * a token sees [window] positions, its own included.
 */
internal fun ringMask(window: Int, length: Int, rows: Int, start: Int, count: Int, filled: Int): FloatArray = FloatArray(count * rows) {
    val row = it % rows
    val held = row + Math.floorDiv(filled - 1 - row, length) * length
    val distance = start + it / rows - held
    if (held >= 0 && distance in 0 until window) 0f else MASKED
}

/** The stretches of rows of a ring of [length] that positions [start] to before [end] have, the last [length] of them: first row, rows, first position. */
internal fun ringStretches(length: Int, start: Int, end: Int): List<Triple<Int, Int, Int>> = buildList {
    var position = maxOf(start, end - length)
    while (position < end) {
        val row = position % length
        val count = minOf(end - position, length - row)
        add(Triple(row, count, position))
        position += count
    }
}
