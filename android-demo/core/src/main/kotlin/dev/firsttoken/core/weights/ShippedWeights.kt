package dev.firsttoken.core.weights

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.PackedFile
import dev.firsttoken.core.generate.Engine
import java.io.File
import kotlin.math.abs

/**
 * Packed weights that came with a bundle: which file fits this [cpu], this runtime (Python's [runtime] of [version]) and the artifact, as python/firsttoken/backends/tflite/shipped.py decides.
 *
 * The runtime checks which kernels a file is for ([takes] asks it that), and not whose weights it holds; so everything else is checked here before it is given one.
 * What was found true of a file is remembered in [checked] until the file changes.
 */
class ShippedWeights(val cpu: CpuKind, private val runtime: String, private val version: String, private val checked: WeightCache, private val takes: (File) -> Boolean) {
    /** The file to use, or why there is none. */
    class Choice(val file: PackedFile?, val why: String?)

    /** What a bundle of [manifest] would use here, were its files what the manifest says. */
    fun fitting(manifest: Manifest): Choice {
        val packed = manifest.packed ?: return Choice(null, null)
        val found = packed.files.firstOrNull { it.isa == cpu.name }
        return when {
            found == null -> Choice(null, "they are for ${packed.files.joinToString { it.isa }}, and this CPU is ${cpu.name}")
            found.runtime != runtime || found.version != version -> Choice(null, "${found.file} was packed by ${found.runtime} ${found.version}, and $version is what runs here")
            found.artifactSha256 != manifest.facts(manifest.cpu).sha256 -> Choice(null, "${found.file} was packed from another ${manifest.cpu.file}")
            else -> Choice(found, null)
        }
    }

    /** What of [bundle] can be used here; its files are read where what they are is not remembered. */
    fun choose(bundle: Bundle): Choice {
        val fitting = fitting(bundle.manifest)
        return fitting.file?.let { lack(bundle, it) }?.let { Choice(null, it) } ?: fitting
    }

    private fun lack(bundle: Bundle, found: PackedFile): String? {
        val sha256 = bundle.manifest.files.getValue(found.file).sha256
        try {
            checked.check(bundle.packed(found), sha256)
            if (checked.once(bundle.packed(found), sha256, "kernels-${cpu.key}-$version") { takes(bundle.packed(found)) }) return null
        } catch (damaged: FirstTokenException) {
            return damaged.message
        }
        return "${found.file} is for other kernels than $runtime $version takes on this CPU"
    }

    /**
     * Makes sure, once, that [engine], which was loaded with [file], answers the bundle's prompt as it did where the weights were packed. Raises [FirstTokenException].
     */
    fun checkAnswer(bundle: Bundle, file: PackedFile, engine: Engine) {
        val sha256 = bundle.manifest.files.getValue(file.file).sha256
        val prompt = checkNotNull(bundle.manifest.packed).prompt
        val asked = listOf(bundle.manifest.facts(bundle.manifest.cpu).sha256, prompt, file.top, file.largest).hashCode()
        if (checked.once(bundle.packed(file), sha256, "answer-${asked.toString(16)}-${cpu.key}-$version") { answers(engine, prompt, file) }) return
        throw FirstTokenException(
            "${file.file}: with it the bundle's test prompt gives the tokens ${file.top} other logits than the recorded ${file.largest}; it is not this artifact's, export again",
        )
    }

    private fun answers(engine: Engine, prompt: List<Int>, file: PackedFile): Boolean {
        engine.reset()
        val logits = engine.prefill(prompt.toIntArray())
        engine.reset()
        if (file.top.size != file.largest.size || file.top.any { it !in logits.indices }) return false
        val near = NEAR * file.largest.maxOf { abs(it) }
        fun isNear(got: Float, wanted: Double) = abs(got - wanted) <= near // false for NaN
        return file.top.indices.all { isNear(logits[file.top[it]], file.largest[it]) } && isNear(logits.max(), file.largest.max())
    }

    private companion object {
        const val NEAR = 0.02 // of the largest logit: cores of one name may add in another order
    }
}
