package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.FallbackEngine
import java.io.File

/** What this build carries of TensorFlow Lite: [number] is LiteRT's version where [isLiteRt], else TensorFlow Lite's. */
class TfliteBuild(val isLiteRt: Boolean, val number: String) {
    val title: String get() = if (isLiteRt) "LiteRT $number" else "TensorFlow Lite $number"
}

/** .tflite bundles on the CPU, and on the NPU where [npu] says so. [build] null: the APK carries no runtime for them. */
class TfliteRuntime(
    private val build: TfliteBuild?,
    private val takesFloat16: () -> Boolean = InterpreterNatives::areThere,
    private val npu: NpuSupport? = null,
    private val load: (File, Int, Boolean) -> TfliteProgram = { file, threads, hasFloat16 -> if (hasFloat16) RunnerProgram(file, threads) else InterpreterProgram(file, threads) },
) : Runtime {
    override val name = "tflite"
    override val version: String get() = build?.title ?: "no LiteRT"

    override fun refusal(manifest: Manifest): String? {
        val target = manifest.target
        return when {
            build == null -> "this build of the app carries no LiteRT; build it with Gradle, which fetches it"
            // a target with a delegate counts LiteRT's versions, one without counts TensorFlow Lite's (export/*.toml)
            target.delegate != "none" && !build.isLiteRt -> "it needs LiteRT ${target.minRuntime}, this app carries ${build.title}; export for tflite-compat, or build the app with Gradle"
            target.delegate != "none" && !isAtLeast(build.number, target.minRuntime) -> "it needs LiteRT ${target.minRuntime}, this app carries ${build.title}"
            target.delegate == "none" && !build.isLiteRt && !isAtLeast(build.number, target.minRuntime) -> "it needs TensorFlow Lite ${target.minRuntime}, this app carries ${build.title}"
            manifest.cache.heldBy != "host" -> "its cache is held by the ${manifest.cache.heldBy}; .tflite bundles keep it outside, export it again"
            hasFloat16(manifest) && !takesFloat16() -> "its KV cache is float16, which ${build.title} has no way to take from an app; export it with a plan whose attention is not fp16, such as int8"
            else -> null
        }
    }

    override fun artifact(bundle: Bundle): ArtifactInUse? = bundle.manifest.npu?.let { npuRefusal(bundle).let { reason -> ArtifactInUse(reason == null, reason) } }

    override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine {
        if (bundle.manifest.npu == null || choice == ArtifactChoice.CPU) return onCpu(bundle, threads, null)
        val refusal = npuRefusal(bundle)
        return when {
            choice == ArtifactChoice.NPU -> if (refusal == null) onNpu(bundle) else throw FirstTokenException("its NPU artifact does not run here: $refusal")
            refusal != null -> onCpu(bundle, threads, refusal)
            else -> onNpuIfItWorks(bundle, threads)
        }
    }

    private fun npuRefusal(bundle: Bundle): String? = if (npu == null) "this build of the app has no way to an NPU" else npu.refusal(bundle)

    private fun onNpuIfItWorks(bundle: Bundle, threads: Int): Engine {
        val engine = try {
            onNpu(bundle)
        } catch (error: Throwable) {
            return onCpu(bundle, threads, failureMessage(error))
        }
        return FallbackEngine(bundle.manifest, engine, ::failureMessage) { reason -> onCpu(bundle, threads, reason) }
    }

    private fun onNpu(bundle: Bundle): Engine = checkNotNull(npu).open(bundle)

    private fun onCpu(bundle: Bundle, threads: Int, fallback: String?): Engine =
        TfliteEngine(bundle.manifest, load(bundle.artifact(), threads, hasFloat16(bundle.manifest)), fallback)

    private fun hasFloat16(manifest: Manifest) = manifest.methods.any { method -> (method.inputs + method.outputs).any { it.dtype == "float16" } }
}
