package dev.firsttoken.core.gpu

import dev.firsttoken.core.npu.NpuCall
import java.io.Closeable

/** A loaded GPU artifact with its KV cache. The runtime's own classes cannot be loaded on the JVM of a test. */
interface GpuProgram : Closeable {
    /** Runs a graph, which writes its rows into the cache, and returns its logits, or null where it gives none. May raise anything that the runtime raises. */
    fun run(call: NpuCall): FloatArray?
}
