package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Runs signatures by LiteRT's C API: XNNPACK's packed weights are read from and kept in the file [weightCache] (null: in memory), tensors lie in native memory,
 * of any type, and those of the KV cache are read where they lie. [library] is LiteRT's. A [weightCache] that [isOnlyRead] has to fit (`NativeFunctions.takes`).
 */
internal class NativeProgram(artifact: File, threads: Int, weightCache: File?, library: String, isOnlyRead: Boolean = false) : TfliteProgram {
    private class Prepared(val number: Int, val inputs: List<String>, val outputs: List<String>) {
        var shapes: Map<String, TensorShape> = emptyMap()
        var memory: Map<String, ByteBuffer> = emptyMap()
        var returned: Map<String, ByteBuffer> = emptyMap()
    }

    private val program = said { NativeFunctions.open(library.toByteArray(), artifact.path.toByteArray(), threads, weightCache?.path.orEmpty().toByteArray(), isOnlyRead) }
    private val signatures: Map<String, Prepared> = said {
        NativeFunctions.signatures(program).withIndex().associate { (number, name) ->
            name to Prepared(number, NativeFunctions.inputs(program, number).asList(), NativeFunctions.outputs(program, number).asList())
        }
    }

    override val keepsOlder get() = true

    override fun reserve(signature: String, inputs: Map<String, TensorShape>) {
        val prepared = signature(signature)
        said { NativeFunctions.reserve(program, prepared.number, shapes(prepared.inputs, inputs, "input")) }
    }

    override fun prepare(signature: String, inputs: Map<String, TensorShape>, outputs: Map<String, TensorShape>): Map<String, ByteBuffer> {
        val prepared = signature(signature)
        if (prepared.shapes == inputs) return prepared.memory
        prepared.shapes = emptyMap() // a call that fails leaves nothing to run
        val (into, out) = shapes(prepared.inputs, inputs, "input") to shapes(prepared.outputs, outputs, "output")
        val memory = said { NativeFunctions.prepare(program, prepared.number, into, out) }.map { it.order(ByteOrder.nativeOrder()) }
        prepared.memory = named(prepared.inputs, memory.take(prepared.inputs.size), inputs)
        prepared.returned = named(prepared.outputs, memory.drop(prepared.inputs.size), outputs)
        prepared.shapes = inputs
        return prepared.memory
    }

    override fun invoke(signature: String) {
        val prepared = signature(signature)
        said { NativeFunctions.run(program, prepared.number) }
    }

    override fun output(signature: String, name: String): ByteBuffer = signature(signature).returned.getValue(name)

    override fun close() {
        for (prepared in signatures.values) {
            prepared.shapes = emptyMap() // their memory is gone
            prepared.memory = emptyMap()
            prepared.returned = emptyMap()
        }
        NativeFunctions.close(program)
    }

    private fun signature(name: String) = signatures[name] ?: throw FirstTokenException("the artifact has no signature '$name'; export the bundle again")

    private fun shapes(names: List<String>, given: Map<String, TensorShape>, kind: String) = Array(names.size) {
        given[names[it]]?.dimensions ?: throw FirstTokenException("the artifact has an $kind '${names[it]}', which the manifest does not name; export the bundle again")
    }

    private fun named(names: List<String>, memory: List<ByteBuffer>, shapes: Map<String, TensorShape>) = names.zip(memory).toMap().onEach { (name, bytes) ->
        val wanted = shapes.getValue(name).bytes
        if (bytes.capacity() != wanted) throw FirstTokenException("tensor '$name' has ${bytes.capacity()} bytes, expected $wanted; export the bundle again")
    }

    private fun <T> said(call: () -> T): T =
        try {
            call()
        } catch (error: IllegalStateException) {
            throw FirstTokenException(error.message ?: "LiteRT failed and did not say why; load the bundle again")
        }
}
