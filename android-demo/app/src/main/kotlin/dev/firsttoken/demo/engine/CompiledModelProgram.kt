package dev.firsttoken.demo.engine

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.TensorBuffer
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.npu.NpuCall
import dev.firsttoken.core.npu.NpuProgram
import java.io.File

/**
 * Runs graphs compiled ahead of time with LiteRT's `CompiledModel`. [libraries] is the folder of `libLiteRtDispatch_Qualcomm.so` and
 * Qualcomm's own.
 *
 * A `TensorBuffer` is only written and read whole, so the cache is copied to it at every call.
 */
class CompiledModelProgram(artifact: File, private val methods: List<Method>, libraries: File) : NpuProgram {
    private class Buffers(val inputs: Map<String, TensorBuffer>, val outputs: Map<String, TensorBuffer>)

    private val environment = Environment.create(mapOf(Environment.Option.DispatchLibraryDir to libraries.path))
    private val buffers = HashMap<String, Buffers>()
    private val model: CompiledModel = try {
        CompiledModel.create(artifact.path, options(), environment)
    } catch (error: Throwable) {
        environment.close()
        throw error
    }

    override fun run(call: NpuCall): Map<String, FloatArray> {
        val own = buffers.getOrPut(call.method) { made(call.method) }
        for ((name, values) in call.floats) own.inputs.getValue(name).writeFloat(values)
        for ((name, values) in call.ints) own.inputs.getValue(name).writeInt(values)
        model.run(own.inputs, own.outputs, call.method)
        return own.outputs.mapValues { it.value.readFloat() }
    }

    override fun close() {
        for (own in buffers.values) (own.inputs.values + own.outputs.values).forEach(TensorBuffer::close)
        buffers.clear()
        model.close()
        environment.close()
    }

    private fun made(name: String): Buffers {
        val method = methods.single { it.name == name }
        return Buffers(
            method.inputs.associate { it.name to model.createInputBuffer(it.name, name) },
            method.outputs.associate { it.name to model.createOutputBuffer(it.name, name) },
        )
    }

    /** Full clocks while a graph runs: what is measured is the time to the first token. */
    private fun options() = CompiledModel.Options(Accelerator.NPU).apply {
        qualcommOptions = CompiledModel.QualcommOptions(htpPerformanceMode = CompiledModel.QualcommOptions.HtpPerformanceMode.BURST)
    }
}
