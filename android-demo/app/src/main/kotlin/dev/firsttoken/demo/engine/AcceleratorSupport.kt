package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.Engine

/** Whether and how a bundle's artifacts for one kind of processor beside the CPU run here. */
interface AcceleratorSupport {
    /** Why [artifact] of [bundle] is not run here, in one sentence; null where it is to be tried. */
    fun refusal(bundle: Bundle, artifact: Artifact): String?

    /** Loads it. May raise anything that the runtime raises. */
    fun open(bundle: Bundle, artifact: Artifact): Engine
}

/** What is wrong with the file of [artifact], null where nothing is. */
internal fun fileProblem(bundle: Bundle, artifact: Artifact): String? =
    try {
        bundle.artifact(artifact)
        null
    } catch (damaged: FirstTokenException) {
        damaged.message
    }
