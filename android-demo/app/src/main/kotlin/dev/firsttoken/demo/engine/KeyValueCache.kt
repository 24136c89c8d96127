package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Cache
import dev.firsttoken.core.bundle.Method

/**
 * The KV cache of a .tflite bundle, kept by the app: one tensor a layer for keys and one for values, rows along `cache.axis`.
 *
 * It grows in steps, so that attention never reads far past what is filled. Rows that no token has filled are zero.
 */
internal class KeyValueCache(private val layout: Cache, decode: Method) {
    private val elements = decode.inputs.filter { it.name.startsWith("key.") || it.name.startsWith("value.") }.associate { it.name to Element.of(it.dtype) }
    private val names = elements.keys
    private val outer = layout.shape.take(layout.axis).fold(1) { size, dimension -> size * dimension.toInt() }
    private val rowValues = layout.shape.drop(layout.axis + 1).fold(1) { size, dimension -> size * dimension.toInt() }

    /** Rows there is room for. */
    var rows = 0
        private set

    /** The tensors by name, each with [rows] rows. */
    var tensors: Map<String, HostTensor> = emptyMap()
        private set

    /** Makes room for [wanted] rows, keeping the first [filled]. Returns whether the tensors are others now. */
    fun grow(wanted: Int, filled: Int): Boolean {
        if (wanted <= rows) return false
        rows = minOf((wanted + layout.step - 1) / layout.step * layout.step, layout.length)
        tensors = resized(rows, filled)
        return true
    }

    /** The first [filled] rows as tensors of just that size. */
    fun first(filled: Int): Map<String, HostTensor> = resized(filled, filled)

    /** Empty tensors for what a call adds: [count] rows of every key and value. */
    fun added(count: Int): Map<String, HostTensor> = names.associateWith { tensor(it, count) }

    /** Writes the [count] rows of [added] from row [start] on. */
    fun append(added: Map<String, HostTensor>, start: Int, count: Int) {
        for (name in names) copyRows(added.getValue(name), count, 0, tensors.getValue(name), rows, start, count)
    }

    /** Makes the first [filled] rows zero again: decoding relies on the row it fills being zero. */
    fun clear(filled: Int) {
        for (tensor in tensors.values) {
            val rowBytes = rowValues * tensor.element.bytes
            val zeros = ByteArray(filled * rowBytes)
            for (part in 0 until outer) {
                tensor.data.window(part * rows * rowBytes, part * rows * rowBytes + zeros.size).put(zeros)
            }
        }
    }

    private fun resized(size: Int, filled: Int): Map<String, HostTensor> {
        val old = tensors
        val oldRows = old.values.firstOrNull()?.shape?.get(layout.axis) ?: 0
        return names.associateWith { name ->
            tensor(name, size).also { if (filled > 0) copyRows(old.getValue(name), oldRows, 0, it, size, 0, filled) }
        }
    }

    private fun tensor(name: String, size: Int) =
        HostTensor(elements.getValue(name), IntArray(layout.shape.size) { if (it == layout.axis) size else layout.shape[it].toInt() })

    private fun copyRows(from: HostTensor, fromRows: Int, fromStart: Int, into: HostTensor, intoRows: Int, intoStart: Int, count: Int) {
        val rowBytes = rowValues * from.element.bytes
        for (part in 0 until outer) {
            val source = (part * fromRows + fromStart) * rowBytes
            val target = (part * intoRows + intoStart) * rowBytes
            into.data.window(target, target + count * rowBytes).put(from.data.window(source, source + count * rowBytes))
        }
    }
}
