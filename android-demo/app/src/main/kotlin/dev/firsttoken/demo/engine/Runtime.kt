package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.has

/** One of the runtimes that a bundle may be for. */
interface Runtime {
    /** As an artifact's `needs` name it. */
    val name: String

    /** Name and version, for people and measurements. */
    val version: String

    /** Why it cannot run the bundle, in one sentence, or null where it can. */
    fun refusal(manifest: Manifest): String?

    /** Which of the bundle's artifacts would run here; null where it has but the CPU's. */
    fun artifact(bundle: Bundle): ArtifactInUse? = null

    /** Raises [FirstTokenException] where [choice] cannot be met. */
    fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine
}

/** Picks the runtime that a bundle is for. */
class RuntimeEngines(private val runtimes: List<Runtime>) : Engines {
    override fun refusal(manifest: Manifest): String? {
        val runtime = runtimes.firstOrNull { it.name == manifest.cpu.needs.runtime }
        return if (runtime == null) "this app knows no runtime '${manifest.cpu.needs.runtime}'; update it" else runtime.refusal(manifest)
    }

    override fun runtimeVersion(manifest: Manifest): String = of(manifest).version

    override fun artifact(bundle: Bundle): ArtifactInUse? = runtimes.firstOrNull { it.name == bundle.manifest.cpu.needs.runtime }?.artifact(bundle)

    override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine {
        refusal(bundle.manifest)?.let { throw FirstTokenException(it) }
        if (!bundle.manifest.has(choice)) {
            val target = if (choice == ArtifactChoice.GPU) "export for tflite-gpu" else "export for a Snapdragon"
            throw FirstTokenException("the bundle has no $choice artifact; leave out the choice, or $target")
        }
        return of(bundle.manifest).open(bundle, threads, choice)
    }

    private fun of(manifest: Manifest): Runtime =
        runtimes.firstOrNull { it.name == manifest.cpu.needs.runtime } ?: throw FirstTokenException("this app knows no runtime '${manifest.cpu.needs.runtime}'; update it")
}

/** Compares versions such as "2.16.1" number by number; what is no number counts as 0. */
internal fun isAtLeast(version: String, wanted: String): Boolean {
    fun numbers(text: String) = text.split('.').map { part -> part.takeWhile { it.isDigit() }.toIntOrNull() ?: 0 }
    val (have, need) = numbers(version) to numbers(wanted)
    for (place in 0 until maxOf(have.size, need.size)) {
        val difference = have.getOrElse(place) { 0 } - need.getOrElse(place) { 0 }
        if (difference != 0) return difference > 0
    }
    return true
}
