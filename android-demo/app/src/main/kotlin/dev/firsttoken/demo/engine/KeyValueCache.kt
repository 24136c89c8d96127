package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.State
import java.nio.ByteBuffer

/** Rows of every key and value: the tensors' memory by name, each with room for [rows], or for its ring where that is shorter. */
internal class CacheRows(val rows: Int, val memory: Map<String, ByteBuffer>)

/**
 * The KV cache of a .tflite bundle: the inputs' memory of its decode step, so that a step copies but the row that it adds, and none of it
 * is in the app's heap (where Android counts direct buffers). Each layer's tensors have a type and shape of their own; of a layer with a window
 * they are a ring of that many rows and a few more, in which position p has row p modulo the ring's length.
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

    /** What holds them now. */
    val current: CacheRows get() = held

    /** Lets go of all memory, which is about to be freed. */
    fun release() {
        held = CacheRows(0, emptyMap())
    }

    /** Their names, each with the shape of [count] new rows. */
    fun shapes(count: Int): Map<String, TensorShape> = layouts.mapValues { it.value.shape(count) }

    /** Their names, each with the shape of what the cache holds in [count] rows. */
    fun heldShapes(count: Int): Map<String, TensorShape> = layouts.mapValues { it.value.shape(minOf(count, it.value.length)) }

    /** Makes room for [wanted] rows, keeping the first [filled], which [keep] puts where the growth leaves them alone. */
    fun grow(wanted: Int, filled: Int, keep: () -> CacheRows) {
        if (wanted <= rows) return
        val kept = if (filled > 0) keep() else null
        held = prepare(minOf((wanted + step - 1) / step * step, length.toLong()).toInt())
        for ((name, layout) in layouts) {
            val (room, before) = minOf(rows, layout.length) to minOf(filled, layout.length)
            if (kept != null) layout.copy(kept.memory.getValue(name), minOf(kept.rows, layout.length), 0, held.memory.getValue(name), room, 0, before)
            layout.clear(held.memory.getValue(name), room, before, room)
        }
    }

    /** Copies the first [filled] rows into [other], which has room for just these. */
    fun copyTo(other: CacheRows, filled: Int) {
        for ((name, layout) in layouts) {
            val (room, into) = minOf(rows, layout.length) to minOf(other.rows, layout.length)
            layout.copy(held.memory.getValue(name), room, 0, other.memory.getValue(name), into, 0, minOf(filled, layout.length))
        }
    }

    /** Writes the [count] rows that a call has [added] from position [start] on. */
    fun append(added: (String) -> ByteBuffer, start: Int, count: Int) {
        for ((name, layout) in layouts) {
            val (from, room) = added(name) to minOf(rows, layout.length)
            for ((row, some, position) in ringStretches(layout.length, start, start + count)) {
                layout.copy(from, count, position - start, held.memory.getValue(name), room, row, some)
            }
        }
    }

    /** Writes the rows of the first [count] positions, as [rows] gives them by a tensor's name and shape; there is room. */
    fun put(count: Int, rows: (String, TensorShape) -> ByteBuffer) {
        for ((name, layout) in layouts) {
            val (some, room) = minOf(count, layout.length) to minOf(this.rows, layout.length)
            layout.copy(rows(name, layout.shape(some)), some, 0, held.memory.getValue(name), room, 0, some)
        }
    }

    /** Makes the rows of the first [filled] positions, but for those before [from], zero again: decoding relies on the row it fills being zero. */
    fun clear(filled: Int, from: Int = 0) {
        for ((name, memory) in held.memory) {
            val layout = layouts[name] ?: continue
            for ((row, some) in ringStretches(layout.length, from, filled)) layout.clear(memory, minOf(rows, layout.length), row, row + some)
        }
    }

    /** Makes the row of [position] zero wherever a ring uses one again. */
    fun clearUsed(position: Int) {
        for ((name, layout) in layouts) {
            val row = position % layout.length
            if (position >= layout.length) layout.clear(held.memory.getValue(name), layout.length, row, row + 1)
        }
    }
}
