package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.State
import java.nio.ByteBuffer

/** How the rows of a layer's keys, or of its values, lie in memory for any number of rows: block by block. */
internal class RowLayout(private val state: State) {
    private val element = Element.of(state.dtype)
    private val blocks = state.blocks
    private val rowBytes = state.rowValues * element.bytes

    /** The most rows there are: of a layer with a window it is a ring of these. */
    val length: Int get() = state.length

    /** The tensor of [rows] rows. */
    fun shape(rows: Int) = TensorShape(element, state.shape(rows))

    /** Copies [count] rows from row [start] of [from], which holds [fromRows], to row [target] and on of [into], which holds [intoRows]. */
    fun copy(from: ByteBuffer, fromRows: Int, start: Int, into: ByteBuffer, intoRows: Int, target: Int, count: Int) {
        for (block in 0 until blocks) {
            val (source, place) = (block * fromRows + start) * rowBytes to (block * intoRows + target) * rowBytes
            into.window(place, place + count * rowBytes).put(from.window(source, source + count * rowBytes))
        }
    }

    /** Makes rows [start] to before [end] of [memory], which holds [rows], zero. */
    fun clear(memory: ByteBuffer, rows: Int, start: Int, end: Int) {
        val zeros = ByteArray((end - start) * rowBytes)
        for (block in 0 until blocks) memory.window((block * rows + start) * rowBytes, (block * rows + end) * rowBytes).put(zeros)
    }
}
