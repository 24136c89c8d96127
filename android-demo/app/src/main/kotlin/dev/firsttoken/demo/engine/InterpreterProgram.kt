package dev.firsttoken.demo.engine

import java.io.File
import java.nio.ByteBuffer
import org.tensorflow.lite.Interpreter

/**
 * Runs signatures with the public methods of `org.tensorflow.lite.Interpreter`, where a library has no [InterpreterNatives].
 *
 * A signature's inputs are resized only by passing arrays of arrays; buffers, which are copied at once, must have the size that is
 * set. So arrays go in where a shape has changed, and the same values as a buffer everywhere else. All of it lies in the app's heap.
 */
class InterpreterProgram(artifact: File, threads: Int) : TfliteProgram {
    private val interpreter = Interpreter(artifact, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))
    private val signatures = HashMap<String, Prepared>()

    private class Prepared(val inputs: Map<String, HostTensor>, val outputs: Map<String, HostTensor>, val shapes: Map<String, TensorShape>) {
        /** Inputs whose shape the interpreter has. */
        val set = HashSet<String>()
    }

    override fun prepare(signature: String, inputs: Map<String, TensorShape>, outputs: Map<String, TensorShape>): Map<String, ByteBuffer> {
        val old = signatures[signature]
        if (old?.shapes == inputs) return old.inputs.mapValues { it.value.data }
        signatures.remove(signature)
        val made = Prepared(inputs.mapValues { HostTensor(it.value) }, outputs.mapValues { HostTensor(it.value) }, inputs)
        if (old != null) made.set += old.set.filter { old.shapes[it] == inputs[it] }
        signatures[signature] = made
        return made.inputs.mapValues { it.value.data }
    }

    override fun invoke(signature: String) {
        val prepared = signatures.getValue(signature)
        val values = prepared.inputs.mapValues { (name, tensor) -> if (name in prepared.set) tensor.data.rewound() else tensor.nested() }
        val results = prepared.outputs.mapValues<String, HostTensor, Any> { (_, tensor) -> tensor.data.rewound() }
        prepared.set.clear() // a call that fails may leave any of the shapes
        interpreter.runSignature(values, results, signature)
        prepared.set += prepared.inputs.keys
    }

    override fun output(signature: String, name: String): ByteBuffer = signatures.getValue(signature).outputs.getValue(name).data

    override fun close() = interpreter.close()
}
