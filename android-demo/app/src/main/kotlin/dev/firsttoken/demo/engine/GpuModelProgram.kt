package dev.firsttoken.demo.engine

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.TensorBuffer
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.bundle.Tensor
import dev.firsttoken.core.gpu.GpuLayout
import dev.firsttoken.core.gpu.GpuProgram
import dev.firsttoken.core.npu.NpuCall
import java.io.File

/**
 * Runs graphs with LiteRT's `CompiledModel` on the GPU. Raises [IllegalStateException] for a graph that LiteRT has left to the CPU, which it does without a word.
 *
 * The CPU is among the accelerators, for without it LiteRT 2.3 does not read weights that lie in another file: the first call fails, or ends the process.
 *
 * The cache stays in the runtime's buffers, two sets of them: a call reads one and writes all of the other, and the next call takes them the other
 * way round. So no buffer is read and written in one call, which a GPU may do in any order.
 */
class GpuModelProgram(artifact: File, private val methods: List<Method>) : GpuProgram {
    private class Fed(val inputs: Map<String, TensorBuffer>, val logits: TensorBuffer?)

    private val environment = Environment.create()
    private val fed = HashMap<String, Fed>()
    private var filled: Map<String, TensorBuffer> = emptyMap()
    private var spare: Map<String, TensorBuffer> = emptyMap()
    private val model: CompiledModel = try {
        CompiledModel.create(artifact.path, options(), environment)
    } catch (error: Throwable) {
        environment.close()
        throw error
    }

    init {
        try {
            for (method in methods) for (input in method.inputs) checkOnGpu(method.name, input.name)
        } catch (error: Throwable) {
            close()
            throw error
        }
    }

    override fun run(call: NpuCall): FloatArray? {
        if (filled.isEmpty()) makeCache()
        val own = fed.getOrPut(call.method) { made(call.method) }
        for ((name, values) in call.floats) own.inputs.getValue(name).writeFloat(values)
        for ((name, values) in call.ints) own.inputs.getValue(name).writeInt(values)
        model.run(own.inputs + filled, spare + listOfNotNull(own.logits).associateBy { GpuLayout.LOGITS }, call.method)
        filled = spare.also { spare = filled }
        return own.logits?.readFloat()
    }

    override fun close() {
        (fed.values.flatMap { it.inputs.values + listOfNotNull(it.logits) } + filled.values + spare.values).forEach(TensorBuffer::close)
        fed.clear()
        filled = emptyMap()
        spare = emptyMap()
        model.close()
        environment.close()
    }

    /** What a graph takes lies in the GPU's memory where the GPU runs it, and in the host's where the CPU does. */
    private fun checkOnGpu(method: String, input: String) {
        val types = model.getInputBufferRequirements(input, method).supportedTypes.map { it.name }
        check(types.any { type -> ON_GPU.any(type::startsWith) }) { "LiteRT runs '$method' on the CPU: '$input' is to be in $types" }
    }

    /** Zeros, since a row that no token has filled is hidden by the mask only where it holds a finite number. */
    private fun makeCache() {
        val tensors = GpuLayout.cached(method(GpuLayout.DECODE))
        filled = tensors.associate { it.name to model.createInputBuffer(it.name, GpuLayout.DECODE) }
        spare = tensors.associate { it.name to model.createInputBuffer(it.name, GpuLayout.DECODE) }
        for ((size, same) in tensors.groupBy(::size)) FloatArray(size).let { zeros -> same.forEach { filled.getValue(it.name).writeFloat(zeros) } }
    }

    private fun made(name: String): Fed {
        val method = method(name)
        val cached = GpuLayout.cached(method).toSet()
        val logits = if (method.outputs.any { it.name == GpuLayout.LOGITS }) model.createOutputBuffer(GpuLayout.LOGITS, name) else null
        return Fed((method.inputs - cached).associate { it.name to model.createInputBuffer(it.name, name) }, logits)
    }

    private fun method(name: String) = methods.single { it.name == name }

    private fun size(tensor: Tensor) = tensor.shape.fold(1) { size, dimension -> size * dimension.toInt() }

    /** FP32, in which the proof ran (GpuFacts); left to itself, the accelerator computes in FP16 where the GPU has it. */
    private fun options() = CompiledModel.Options(Accelerator.GPU, Accelerator.CPU).apply {
        gpuOptions = CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP32)
    }

    private companion object {
        val ON_GPU = listOf("OpenCl", "WebGpu", "Vulkan", "Gl") // how LiteRT's names of such memory begin
    }
}
