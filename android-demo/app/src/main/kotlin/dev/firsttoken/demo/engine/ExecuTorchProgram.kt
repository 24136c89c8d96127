package dev.firsttoken.demo.engine

import java.io.Closeable
import java.nio.FloatBuffer

/** A loaded .pte file. The runtime's own classes cannot be loaded on the JVM of a test. */
interface ExecuTorchProgram : Closeable {
    /**
     * Runs `forward` on [tokens] `[1, n]` at [position], with [mask] `[n, filled]` in a direct buffer, and returns the logits of the
     * last token. May raise anything that the runtime raises.
     */
    fun forward(tokens: LongArray, position: Long, mask: FloatBuffer, filled: Int): FloatArray
}
