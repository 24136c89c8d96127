package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.State

/** How the rows of a layer's keys, or of its values, lie in tensors of any number of rows. */
internal class RowLayout(private val state: State) {
    private val element = Element.of(state.dtype)
    private val blocks = state.blocks
    private val rowBytes = state.rowValues * element.bytes

    /** An empty tensor of [rows] rows. */
    fun tensor(rows: Int) = HostTensor(element, state.shape(rows))

    /** Copies the first [count] rows of [from] to row [start] of [into] and on. */
    fun copy(from: HostTensor, into: HostTensor, start: Int, count: Int) {
        for (block in 0 until blocks) {
            val (source, target) = offset(from, block) to offset(into, block) + start * rowBytes
            into.data.window(target, target + count * rowBytes).put(from.data.window(source, source + count * rowBytes))
        }
    }

    /** Makes the first [count] rows zero, but for those before [from]. */
    fun clear(tensor: HostTensor, count: Int, from: Int) {
        val zeros = ByteArray((count - from) * rowBytes)
        for (block in 0 until blocks) {
            val start = offset(tensor, block) + from * rowBytes
            tensor.data.window(start, start + zeros.size).put(zeros)
        }
    }

    private fun offset(tensor: HostTensor, block: Int) = block * tensor.shape[state.axis] * rowBytes
}
