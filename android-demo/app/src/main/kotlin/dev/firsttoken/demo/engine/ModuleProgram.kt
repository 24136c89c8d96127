package dev.firsttoken.demo.engine

import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/** Runs `forward` with `org.pytorch.executorch.Module`; the file is mapped, not read. */
class ModuleProgram(artifact: File, threads: Int) : ExecuTorchProgram {
    private val module = Module.load(artifact.path, Module.LOAD_MODE_MMAP, threads).apply { loadMethod("forward") }

    override fun forward(tokens: LongArray, cachePosition: LongArray): FloatArray {
        val count = tokens.size.toLong()
        val outputs = module.execute(
            "forward",
            EValue.from(Tensor.fromBlob(tokens, longArrayOf(1, count))),
            EValue.from(Tensor.fromBlob(cachePosition, longArrayOf(count))),
        )
        check(outputs.isNotEmpty()) { "the program gave no output" }
        return outputs[0].toTensor().dataAsFloatArray
    }

    override fun close() = module.destroy()
}
