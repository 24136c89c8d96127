package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.State

/**
 * The KV cache of a .tflite bundle, kept by the app: a tensor for keys and one for values of every layer, each of its own type and shape.
 *
 * It grows in steps, to [length] rows at most, so that attention never reads far past what is filled. Rows that no token has filled are zero.
 */
internal class KeyValueCache(states: List<State>, private val length: Int) {
    private val layouts: Map<String, RowLayout> = states.flatMap { state -> RowLayout(state).let { layout -> state.tensors.map { it to layout } } }.toMap()
    private val step = states.first().step.toLong()

    /** Rows there is room for. */
    var rows = 0
        private set

    /** The tensors by name, each with [rows] rows. */
    var tensors: Map<String, HostTensor> = emptyMap()
        private set

    /** Makes room for [wanted] rows, keeping the first [filled]. Returns whether the tensors are others now. */
    fun grow(wanted: Int, filled: Int): Boolean {
        if (wanted <= rows) return false
        val size = minOf((wanted + step - 1) / step * step, length.toLong()).toInt()
        tensors = resized(size, filled)
        rows = size
        return true
    }

    /** The first [filled] rows as tensors of just that size. */
    fun first(filled: Int): Map<String, HostTensor> = resized(filled, filled)

    /** Empty tensors for what a call adds: [count] rows of every key and value. */
    fun added(count: Int): Map<String, HostTensor> = layouts.mapValues { it.value.tensor(count) }

    /** Writes the [count] rows of [added] from row [start] on. */
    fun append(added: Map<String, HostTensor>, start: Int, count: Int) {
        for ((name, layout) in layouts) layout.copy(added.getValue(name), tensors.getValue(name), start, count)
    }

    /** Makes the first [filled] rows, but for those before [from], zero again: decoding relies on the row it fills being zero. */
    fun clear(filled: Int, from: Int = 0) {
        for ((name, tensor) in tensors) layouts.getValue(name).clear(tensor, filled, from)
    }

    private fun resized(size: Int, filled: Int): Map<String, HostTensor> =
        layouts.mapValues { (name, layout) -> layout.tensor(size).also { if (filled > 0) layout.copy(tensors.getValue(name), it, 0, filled) } }
}
