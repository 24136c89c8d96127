package dev.firsttoken.core.npu

import dev.firsttoken.core.bundle.Cache

/** The KV cache that goes into NPU graphs: fixed float32 tensors, to which the rows that a call returns are appended along `cache.axis`. */
class NpuCache(private val layout: Cache) {
    private val shape = layout.shape.map { it.toInt() }
    private val outer = shape.take(layout.axis).fold(1, Int::times)
    private val row = shape.drop(layout.axis + 1).fold(1, Int::times)

    /** The tensors by name. Rows that nothing was appended to, or an earlier prompt's, are hidden by the mask. */
    val tensors: Map<String, FloatArray> =
        (0 until layout.layers).flatMap { listOf("key.$it", "value.$it") }.associateWith { FloatArray(outer * layout.length * row) }

    /** Writes the first [count] of the [length] rows that a call has returned from row [start] on. */
    fun append(returned: Map<String, FloatArray>, length: Int, start: Int, count: Int) {
        for ((name, tensor) in tensors) {
            val added = returned.getValue(name)
            for (part in 0 until outer) added.copyInto(tensor, (part * layout.length + start) * row, part * length * row, (part * length + count) * row)
        }
    }
}
