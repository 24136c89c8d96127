package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Needs
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.FallbackEngine
import dev.firsttoken.core.generate.KeptRows
import dev.firsttoken.core.generate.RunnerInUse
import java.io.File

/** What this build carries of TensorFlow Lite: [number] is LiteRT's version where [isLiteRt], else TensorFlow Lite's. */
class TfliteBuild(val isLiteRt: Boolean, val number: String) {
    val title: String get() = if (isLiteRt) "LiteRT $number" else "TensorFlow Lite $number"
}

/** .tflite bundles on the CPU, by [native] where that is there, and on the NPU and the GPU where [npu] and [gpu] say so. [build] null: the APK carries no runtime for them. */
class TfliteRuntime(
    private val build: TfliteBuild?,
    private val hasNatives: () -> Boolean = InterpreterNatives::areThere,
    private val npu: AcceleratorSupport? = null,
    private val load: (File, Int, Boolean) -> TfliteProgram = { file, threads, natives -> if (natives) RunnerProgram(file, threads) else InterpreterProgram(file, threads) },
    private val gpu: AcceleratorSupport? = null,
    private val native: NativeRunner? = null,
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
            packedLack(manifest) != null -> packedLack(manifest)
            hasFloat16(cpu) && !isNative && !hasNatives() -> "its KV cache is float16, which ${build.title} has no way to take from an app; export it with a plan whose attention is not fp16, such as int8"
            else -> null
        }
    }

    override fun artifact(bundle: Bundle): ArtifactInUse? {
        val manifest = bundle.manifest
        if (manifest.accelerated.isEmpty()) return null
        val (artifact, refused) = next(bundle, manifest.accelerated, Refusals())
        return refused.inUse(manifest, artifact ?: manifest.cpu)
    }

    override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine =
        when (val processor = choice.processor) {
            null -> best(bundle, threads, bundle.manifest.accelerated, Refusals())
            Processor.CPU -> onCpu(bundle, threads, ArtifactInUse.CPU)
            else -> only(bundle, processor)
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

    /** Why the weights of an artifact that has only packed ones cannot be used; null where they can, or where it has others. */
    private fun packedLack(manifest: Manifest): String? {
        if (manifest.packed?.only != true) return null
        val alone = "its artifact has only packed weights"
        val lack = if (native == null) "${build?.title} has no way to take them from an app" else native.lack
        if (lack != null) return "$alone, which the native runner alone takes, and $lack; export it without --packed-only"
        val shipped = native?.shipped ?: return "$alone; export it without --packed-only"
        return shipped.fitting(manifest).why?.let { "$alone, and none can be used here: $it; export it without --packed-only, or again with --pack-for ${shipped.cpu.name}" }
    }

    /** The first of [candidates] that this phone and build have everything for, or null, and why those before it are not run besides what [refused] says. */
    private fun next(bundle: Bundle, candidates: List<Artifact>, refused: Refusals): Pair<Artifact?, Refusals> {
        var all = refused
        for (artifact in candidates) all = all.and(artifact.processor, refusal(bundle, artifact) ?: return artifact to all)
        return null to all
    }

    private fun refusal(bundle: Bundle, artifact: Artifact): String? {
        val support = support(artifact.processor) ?: return "this build of the app has no way to ${if (artifact.processor == Processor.NPU) "an NPU" else "a GPU"}"
        return lacks(bundle.manifest, artifact.needs) ?: support.refusal(bundle, artifact)
    }

    private fun only(bundle: Bundle, processor: Processor): Engine {
        val (artifact, refused) = next(bundle, bundle.manifest.accelerated.filter { it.processor == processor }, Refusals())
        if (artifact == null) throw FirstTokenException("its $processor artifact does not run here: ${refused.text}")
        return opened(bundle, artifact)
    }

    /** The first of [candidates] that loads and answers its first call, else the CPU's. */
    private fun best(bundle: Bundle, threads: Int, candidates: List<Artifact>, before: Refusals): Engine {
        val (artifact, refused) = next(bundle, candidates, before)
        if (artifact == null) return onCpu(bundle, threads, refused.inUse(bundle.manifest, bundle.manifest.cpu))
        val rest = candidates.drop(candidates.indexOf(artifact) + 1)
        fun otherwise(reason: String) = best(bundle, threads, rest, refused.and(artifact.processor, reason))
        val engine = try {
            opened(bundle, artifact)
        } catch (error: Throwable) {
            return otherwise(failureMessage(error))
        }
        return FallbackEngine(bundle.manifest, engine, ::failureMessage, refused.inUse(bundle.manifest, artifact), ::otherwise)
    }

    private fun opened(bundle: Bundle, artifact: Artifact): Engine = checkNotNull(support(artifact.processor)).open(bundle, artifact)

    private fun support(processor: Processor): AcceleratorSupport? = if (processor == Processor.NPU) npu else gpu

    private val isNative get() = native != null && native.lack == null

    /** By the native runner, where it is there and loads the bundle, else by Java's, with the reason. */
    private fun onCpu(bundle: Bundle, threads: Int, inUse: ArtifactInUse): Engine {
        if (native == null) return engine(bundle, inUse, null) { load(bundle.artifact(), threads, hasNatives()) }
        if (native.lack == null) native.checkArtifact(bundle)
        val needsNative = bundle.manifest.packed?.only == true || (hasFloat16(bundle.manifest.cpu) && !hasNatives())
        val reason = native.lack ?: try {
            return natively(native, bundle, threads, inUse)
        } catch (error: Throwable) {
            failureMessage(error).also { if (needsNative) throw error }
        }
        return engine(bundle, inUse, RunnerInUse(RunnerInUse.JAVA, reason)) { load(bundle.artifact(), threads, hasNatives()) }
    }

    /** With the bundle's packed weights, where it has some that can be used. */
    private fun natively(native: NativeRunner, bundle: Bundle, threads: Int, inUse: ArtifactInUse): Engine {
        val (shipped, only) = native.shipped to (bundle.manifest.packed?.only == true)
        val chosen = shipped?.choose(bundle)
        val packed = chosen?.file
        if (only && packed == null) throw FirstTokenException("its artifact has only packed weights, and none can be used here: ${chosen?.why}; copy the bundle again, or export it without --packed-only")
        val engine = engine(bundle, inUse, RunnerInUse(RunnerInUse.NATIVE, packedFor = packed?.isa, unpacked = chosen?.why)) { native.open(bundle, threads, packed) }
        try {
            if (only && packed != null) shipped.checkAnswer(bundle, packed, engine)
        } catch (error: Throwable) {
            engine.close()
            throw error
        }
        return engine
    }

    private fun engine(bundle: Bundle, inUse: ArtifactInUse, runner: RunnerInUse?, open: () -> TfliteProgram): Engine {
        val program = open()
        val engine = try {
            TfliteEngine(bundle.manifest, program, inUse, runner)
        } catch (error: Throwable) {
            program.close()
            throw error
        }
        return engine.also { it.kept = bundle.manifest.keptPrompt?.let { prompt -> KeptRows(bundle.folder, prompt) } }
    }

    private fun hasFloat16(artifact: Artifact) = artifact.methods.any { method -> (method.inputs + method.outputs).any { it.dtype == "float16" } }
}
