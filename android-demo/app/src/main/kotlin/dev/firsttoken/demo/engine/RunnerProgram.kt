package dev.firsttoken.demo.engine

import java.io.File
import org.tensorflow.lite.Interpreter

/** Runs signatures by [InterpreterNatives], for bundles whose KV cache is float16. */
class RunnerProgram(artifact: File, threads: Int) : TfliteProgram {
    private val interpreter = Interpreter(artifact, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))
    private val natives = InterpreterNatives(interpreter)
    private val runners = HashMap<String, Long>()
    private val shapes = HashMap<String, IntArray>()

    override fun run(signature: String, inputs: Map<String, HostTensor>, outputs: Map<String, HostTensor>) {
        val runner = runners.getOrPut(signature) { natives.runner(signature) }
        reshape(runner, signature, inputs)
        for ((name, tensor) in inputs) natives.input(runner, name) { memory -> copy(name, tensor.data, memory) }
        natives.invoke(runner)
        for ((name, tensor) in outputs) natives.output(runner, name) { memory -> copy(name, memory, tensor.data) }
    }

    override fun close() = interpreter.close()

    private fun reshape(runner: Long, signature: String, inputs: Map<String, HostTensor>) {
        val changed = inputs.filter { (name, tensor) -> shapes["$signature/$name"]?.contentEquals(tensor.shape) != true }
        if (changed.isEmpty()) return
        // a call that fails may leave any of the shapes
        for (name in inputs.keys) shapes.remove("$signature/$name")
        for ((name, tensor) in changed) natives.resize(runner, name, tensor.shape)
        natives.allocate(runner)
        for ((name, tensor) in inputs) shapes["$signature/$name"] = tensor.shape
    }

    private fun copy(name: String, from: java.nio.ByteBuffer, into: java.nio.ByteBuffer) {
        check(from.capacity() == into.capacity()) { "tensor '$name' has ${into.capacity()} bytes, expected ${from.capacity()}" }
        into.rewound().put(from.rewound())
    }
}
