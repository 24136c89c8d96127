package dev.firsttoken.demo.engine

import java.io.Closeable

/** A loaded .pte file. The runtime's own classes cannot be loaded on the JVM of a test. */
interface ExecuTorchProgram : Closeable {
    /**
     * Runs `forward` on [tokens] `[1, n]`, which become the cache's rows [cachePosition] `[n]`, and returns the logits of the last
     * token, behind those of a few tokens before it where the program can check drafts. May raise anything that the runtime raises.
     */
    fun forward(tokens: LongArray, cachePosition: LongArray): FloatArray
}
