package dev.firsttoken.demo.engine

import dev.firsttoken.core.Parity
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.gpu.GpuProgram
import dev.firsttoken.core.npu.NpuCall
import java.io.File

/** A phone with a GPU that only plays one: graphs answer [answer], token by token; the CPU's answers something else. */
class PlayedGpu(private val lack: String? = null, private val loadFails: Throwable? = null, private val runFails: Throwable? = null) {
    val graphs = ArrayList<String>()
    var closed = 0
    private val tokens = DemoFiles.tokenizer().encode(answer, withBegin = false).toList()
    private val end = DemoFiles.manifest().tokenizer.end.first()
    private val vocabulary = DemoFiles.manifest().checkpoint.vocabularySize

    fun engines(npu: PlayedNpu? = null) =
        RuntimeEngines(listOf(TfliteRuntime(TfliteBuild(isLiteRt = true, "2.3.0"), { true }, npu?.support(), { _, _, _ -> PlayedCpu() }, support())))

    fun support() = GpuSupport(lack) { _, _ -> loadFails?.let { throw it } ?: Program() }

    private inner class Program : GpuProgram {
        private var said = 0

        override fun run(call: NpuCall): FloatArray? {
            graphs += call.method
            runFails?.let { throw it }
            if (call.method != "decode") {
                said = 0
                return null
            }
            return FloatArray(vocabulary).also { it[tokens.getOrElse(said++) { end }] = 1f }
        }

        override fun close() {
            closed++
        }
    }

    companion object {
        const val answer = "The GPU speaks."

        /** The demo checkpoint with an artifact for a GPU (tests/android/parity_gpu.py). */
        fun bundle(): File = File(Parity.folder(), "bundles/tflite-gpu")
    }
}
