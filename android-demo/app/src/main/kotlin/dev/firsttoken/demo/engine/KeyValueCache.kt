package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.State
import java.nio.ByteBuffer

/** Rows of every key and value: the tensors' memory by name, each with room for [rows]. */
internal class CacheRows(val rows: Int, val memory: Map<String, ByteBuffer>)

/**
 * The KV cache of a .tflite bundle: the inputs' memory of its decode step, so that a step copies but the row that it adds, and none of it
 * is in the app's heap (where Android counts direct buffers). Each layer's tensors have a type and shape of their own.
 *
 * It grows in steps, to [length] rows at most, so that attention never reads far past what is filled. Rows that no token has filled are zero.
 * [prepare] gives memory for so many rows, which ends the older one's life.
 */
internal class KeyValueCache(states: List<State>, private val length: Int, private val prepare: (Int) -> CacheRows) {
    private val layouts: Map<String, RowLayout> = states.flatMap { state -> RowLayout(state).let { layout -> state.tensors.map { it to layout } } }.toMap()
    private val step = states.first().step.toLong()
    private var held = CacheRows(0, emptyMap())

    /** Rows there is room for. */
    val rows: Int get() = held.rows

    /** Their names, each with the shape of [count] rows. */
    fun shapes(count: Int): Map<String, TensorShape> = layouts.mapValues { it.value.shape(count) }

    /** Makes room for [wanted] rows, keeping the first [filled], which [keep] puts where the growth leaves them alone. */
    fun grow(wanted: Int, filled: Int, keep: () -> CacheRows) {
        if (wanted <= rows) return
        val kept = if (filled > 0) keep() else null
        held = prepare(minOf((wanted + step - 1) / step * step, length.toLong()).toInt())
        for ((name, layout) in layouts) {
            if (kept != null) layout.copy(kept.memory.getValue(name), kept.rows, 0, held.memory.getValue(name), rows, 0, filled)
            layout.clear(held.memory.getValue(name), rows, filled, rows)
        }
    }

    /** Copies the first [filled] rows into [other], which has room for just these. */
    fun copyTo(other: CacheRows, filled: Int) {
        for ((name, layout) in layouts) layout.copy(held.memory.getValue(name), rows, 0, other.memory.getValue(name), other.rows, 0, filled)
    }

    /** Writes the [count] rows that a call has [added] from row [start] on. */
    fun append(added: (String) -> ByteBuffer, start: Int, count: Int) {
        for ((name, layout) in layouts) layout.copy(added(name), count, 0, held.memory.getValue(name), rows, start, count)
    }

    /** Makes the first [filled] rows, but for those before [from], zero again: decoding relies on the row it fills being zero. */
    fun clear(filled: Int, from: Int = 0) {
        for ((name, memory) in held.memory) layouts[name]?.clear(memory, rows, from, filled)
    }
}
