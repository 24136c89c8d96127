package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.State
import java.nio.ByteBuffer

/** What a convolution remembers between calls: its last inputs, which a call takes and returns anew. Zero before the first one. */
internal class LastInputs(state: State) {
    val shape = TensorShape(Element.of(state.dtype), state.shape(state.length))
    private val bytes = ByteArray(shape.bytes)

    /** Takes what a call has [returned]. */
    fun take(returned: ByteBuffer) {
        returned.rewound().get(bytes)
    }

    /** Puts it into an input's memory. */
    fun put(memory: ByteBuffer) {
        memory.rewound().put(bytes)
    }

    fun clear() = bytes.fill(0)
}
