package dev.firsttoken.demo.engine

import java.io.File
import org.tensorflow.lite.Interpreter

/**
 * Runs signatures with `org.tensorflow.lite.Interpreter`, which TensorFlow Lite and LiteRT both have.
 *
 * A signature's inputs are resized only by passing arrays of arrays; buffers, which are copied at once, must have the size that is
 * set. So arrays go in where a shape has changed, and the same values as a buffer everywhere else.
 */
class InterpreterProgram(artifact: File, threads: Int) : TfliteProgram {
    private val interpreter = Interpreter(artifact, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))
    private val shapes = HashMap<String, IntArray>()

    override fun run(signature: String, inputs: Map<String, HostTensor>, outputs: Map<String, HostTensor>) {
        val values = inputs.mapValues { (name, tensor) -> if (isSet(signature, name, tensor)) tensor.data.rewound() else tensor.nested() }
        val results = outputs.mapValues<String, HostTensor, Any> { (_, tensor) -> tensor.data.rewound() }
        // a call that fails may leave any of the shapes
        for (name in inputs.keys) shapes.remove("$signature/$name")
        interpreter.runSignature(values, results, signature)
        for ((name, tensor) in inputs) shapes["$signature/$name"] = tensor.shape
    }

    override fun close() = interpreter.close()

    private fun isSet(signature: String, name: String, tensor: HostTensor) = shapes["$signature/$name"]?.contentEquals(tensor.shape) == true
}
