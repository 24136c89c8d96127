package dev.firsttoken.core.npu

import dev.firsttoken.core.bundle.State

/** The KV cache that goes into NPU graphs: fixed float32 tensors, to which the rows that a call returns are appended along each one's axis. */
class NpuCache(states: List<State>) {
    private class Held(val state: State) {
        val blocks = state.blocks
        val row = state.rowValues
        val values = FloatArray(blocks * state.length * row)
    }

    private val held: Map<String, Held> = states.flatMap { state -> state.tensors.map { it to Held(state) } }.toMap()

    /** The tensors by name. Rows that nothing was appended to, or an earlier prompt's, are hidden by the mask. */
    val tensors: Map<String, FloatArray> = held.mapValues { it.value.values }

    /** Writes the first [count] of the [length] rows that a call has returned from row [start] on. */
    fun append(returned: Map<String, FloatArray>, length: Int, start: Int, count: Int) {
        for ((name, into) in held) {
            val (added, row) = returned.getValue(name) to into.row
            for (block in 0 until into.blocks) {
                added.copyInto(into.values, (block * into.state.length + start) * row, block * length * row, (block * length + count) * row)
            }
        }
    }
}
