package dev.firsttoken.core.npu

import java.io.Closeable

/** A loaded NPU artifact. The runtime's own classes cannot be loaded on the JVM of a test. */
interface NpuProgram : Closeable {
    /** Runs a graph and returns all its outputs by name. May raise anything that the runtime raises. */
    fun run(call: NpuCall): Map<String, FloatArray>
}
