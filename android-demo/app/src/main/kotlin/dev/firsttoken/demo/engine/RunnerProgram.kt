package dev.firsttoken.demo.engine

import java.io.File
import java.nio.ByteBuffer
import org.tensorflow.lite.Interpreter

/** Runs signatures by [InterpreterNatives], on the interpreter's own tensors: nothing is copied, and no type is refused. */
class RunnerProgram(artifact: File, threads: Int) : TfliteProgram {
    private val interpreter = Interpreter(artifact, Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))
    private val natives = InterpreterNatives(interpreter)
    private val signatures = HashMap<String, Prepared>()

    private class Prepared(val runner: Long) {
        var shapes: Map<String, TensorShape> = emptyMap()
        var outputs: Map<String, TensorShape> = emptyMap()
        var memory: Map<String, ByteBuffer> = emptyMap()
    }

    override fun prepare(signature: String, inputs: Map<String, TensorShape>, outputs: Map<String, TensorShape>): Map<String, ByteBuffer> {
        val prepared = signatures.getOrPut(signature) { Prepared(natives.runner(signature)) }
        prepared.outputs = outputs
        if (prepared.shapes == inputs) return prepared.memory
        val changed = inputs.filter { (name, shape) -> prepared.shapes[name] != shape }
        prepared.shapes = emptyMap() // a call that fails may leave any of the shapes
        for ((name, shape) in changed) natives.resize(prepared.runner, name, shape.dimensions)
        natives.allocate(prepared.runner)
        prepared.memory = inputs.mapValues { (name, shape) -> checked(name, natives.input(prepared.runner, name), shape) }
        prepared.shapes = inputs
        return prepared.memory
    }

    override fun invoke(signature: String) = natives.invoke(signatures.getValue(signature).runner)

    override fun output(signature: String, name: String): ByteBuffer {
        val prepared = signatures.getValue(signature)
        return checked(name, natives.output(prepared.runner, name), prepared.outputs.getValue(name))
    }

    override fun close() = interpreter.close()

    private fun checked(name: String, memory: ByteBuffer, shape: TensorShape) =
        memory.also { check(it.capacity() == shape.bytes) { "tensor '$name' has ${it.capacity()} bytes, expected ${shape.bytes}" } }
}
