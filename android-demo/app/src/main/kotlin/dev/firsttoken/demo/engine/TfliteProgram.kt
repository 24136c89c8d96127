package dev.firsttoken.demo.engine

import java.io.Closeable

/** A loaded .tflite file: its signatures run on host tensors. The runtime's own class cannot be loaded on the JVM of a test. */
interface TfliteProgram : Closeable {
    /** Runs [signature]; every output is filled. May raise anything that the runtime raises. */
    fun run(signature: String, inputs: Map<String, HostTensor>, outputs: Map<String, HostTensor>)
}
