package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Needs
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
    private val hasNatives: () -> Boolean = InterpreterNatives::areThere,
    private val npu: NpuSupport? = null,
    private val load: (File, Int, Boolean) -> TfliteProgram = { file, threads, natives -> if (natives) RunnerProgram(file, threads) else InterpreterProgram(file, threads) },
) : Runtime {
    override val name = "tflite"
    override val version: String get() = build?.title ?: "no LiteRT"

    override fun refusal(manifest: Manifest): String? {
        val cpu = manifest.cpu
        return when {
            build == null -> "this build of the app carries no LiteRT; build it with Gradle, which fetches it"
            lacks(manifest, cpu.needs) != null -> lacks(manifest, cpu.needs)
            cpu.states.any { it.heldBy != "host" } -> "its cache is held by the artifact; .tflite bundles keep it outside, export it again"
            cpu.states.any { it.advances == "in_place" } -> "it is made for plain interpreters, whose calls write the cache themselves; export it for tflite-xnnpack or tflite-compat"
            hasFloat16(cpu) && !hasNatives() -> "its KV cache is float16, which ${build.title} has no way to take from an app; export it with a plan whose attention is not fp16, such as int8"
            else -> null
        }
    }

    override fun artifact(bundle: Bundle): ArtifactInUse? {
        val manifest = bundle.manifest
        if (manifest.npuArtifacts.isEmpty()) return null
        val choice = choose(bundle)
        return if (choice.artifact == null) ArtifactInUse(0, choice.refusal) else ArtifactInUse(manifest.artifacts.indexOf(choice.artifact))
    }

    override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine {
        if (bundle.manifest.npuArtifacts.isEmpty() || choice == ArtifactChoice.CPU) return onCpu(bundle, threads, null)
        val (artifact, refusal) = choose(bundle)
        return when {
            choice == ArtifactChoice.NPU -> if (artifact != null) onNpu(bundle, artifact) else throw FirstTokenException("its NPU artifact does not run here: $refusal")
            artifact == null -> onCpu(bundle, threads, refusal)
            else -> onNpuIfItWorks(bundle, artifact, threads)
        }
    }

    /** What this build lacks of what an artifact needs; null where that is nothing. */
    private fun lacks(manifest: Manifest, needs: Needs): String? {
        // a target with a delegate counts LiteRT's versions, one without counts TensorFlow Lite's (export/*.toml)
        val wanted = if (manifest.target.delegate == "none") "TensorFlow Lite ${needs.minRuntime}" else "LiteRT ${needs.minRuntime}"
        return when {
            needs.runtime != name || build == null -> "it needs ${needs.runtime}, this app carries $version"
            build.isLiteRt && manifest.target.delegate == "none" -> null
            !build.isLiteRt && manifest.target.delegate != "none" -> "it needs $wanted, this app carries ${build.title}; export for tflite-compat, or build the app with Gradle"
            isAtLeast(build.number, needs.minRuntime) -> null
            else -> "it needs $wanted, this app carries ${build.title}"
        }
    }

    /** The first NPU artifact that this phone and build have everything for, or why there is none. */
    private data class Choice(val artifact: Artifact?, val refusal: String?)

    private fun choose(bundle: Bundle): Choice {
        if (npu == null) return Choice(null, "this build of the app has no way to an NPU")
        val refusals = LinkedHashSet<String>()
        for (artifact in bundle.manifest.npuArtifacts) refusals += lacks(bundle.manifest, artifact.needs) ?: npu.refusal(bundle, artifact) ?: return Choice(artifact, null)
        return Choice(null, refusals.joinToString("; "))
    }

    private fun onNpuIfItWorks(bundle: Bundle, artifact: Artifact, threads: Int): Engine {
        val engine = try {
            onNpu(bundle, artifact)
        } catch (error: Throwable) {
            return onCpu(bundle, threads, failureMessage(error))
        }
        return FallbackEngine(bundle.manifest, engine, ::failureMessage) { reason -> onCpu(bundle, threads, reason) }
    }

    private fun onNpu(bundle: Bundle, artifact: Artifact): Engine = checkNotNull(npu).open(bundle, artifact)

    private fun onCpu(bundle: Bundle, threads: Int, fallback: String?): Engine =
        TfliteEngine(bundle.manifest, load(bundle.artifact(), threads, hasNatives()), fallback)

    private fun hasFloat16(artifact: Artifact) = artifact.methods.any { method -> (method.inputs + method.outputs).any { it.dtype == "float16" } }
}
