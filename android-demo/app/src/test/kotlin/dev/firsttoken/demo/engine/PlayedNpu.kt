package dev.firsttoken.demo.engine

import dev.firsttoken.core.Parity
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.npu.NpuCall
import dev.firsttoken.core.npu.NpuProgram
import java.io.File
import org.junit.Assume.assumeTrue

/** A phone with an NPU that only plays one: graphs answer [answer], token by token; the CPU's answers something else. */
class PlayedNpu(private val soc: String?, private val build: NpuBuild = NpuBuild(null, null), private val loadFails: Throwable? = null, private val runFails: Throwable? = null) {
    val graphs = ArrayList<String>()
    var closed = 0
    private val tokens = DemoFiles.tokenizer().encode(answer, withBegin = false).toList()
    private val end = DemoFiles.manifest().tokenizer.end.first()

    fun engines() = RuntimeEngines(listOf(TfliteRuntime(TfliteBuild(isLiteRt = true, "2.3.0"), { true }, support(), { _, _, _ -> PlayedCpu() })))

    fun support() = NpuSupport(soc, build) { _, artifact -> loadFails?.let { throw it } ?: Program(artifact) }

    private inner class Program(private val artifact: Artifact) : NpuProgram {
        private var said = 0

        override fun run(call: NpuCall): Map<String, FloatArray> {
            graphs += call.method
            runFails?.let { throw it }
            if (call.method.startsWith("first_")) said = 0
            return artifact.methods.single { it.name == call.method }.outputs.associate { it.name to FloatArray(size(it.shape)) }.also { it.getValue("logits")[next(said++)] = 1f }
        }

        override fun close() {
            closed++
        }
    }

    private fun next(number: Int) = tokens.getOrElse(number) { end }

    private fun size(shape: List<String>) = shape.fold(1) { size, dimension -> size * dimension.toInt() }

    companion object {
        const val answer = "The NPU speaks."

        /** The demo checkpoint compiled for SM8550 (tests/android/parity_npu.py). */
        fun bundle(): File = File(Parity.folder(), "bundles/tflite-hexagon-sm8550").also {
            assumeTrue("needs graphs compiled for the NPU; run scripts/setup hexagon", File(it, "manifest.json").isFile)
        }
    }
}
