package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.generate.ArtifactInUse

/** Why artifacts that are to be preferred do not run, by what they are for, in the order in which they were asked. */
internal class Refusals(private val reasons: Map<Processor, Set<String>> = emptyMap()) {
    fun and(processor: Processor, reason: String) = Refusals(reasons + (processor to reasons[processor].orEmpty() + reason))

    /** Null where there are none. */
    val text: String?
        get() = reasons.entries.mapIndexed { place, (processor, said) -> (if (place == 0) "" else "nor on the $processor: ") + said.joinToString("; ") }.joinToString("; ").ifEmpty { null }

    /** That [artifact] runs, and why none for another processor does. */
    fun inUse(manifest: Manifest, artifact: Artifact): ArtifactInUse {
        val others = Refusals(reasons - artifact.processor)
        return ArtifactInUse(manifest.artifacts.indexOf(artifact), others.text, artifact.processor, others.reasons.keys.firstOrNull() ?: Processor.NPU)
    }
}
