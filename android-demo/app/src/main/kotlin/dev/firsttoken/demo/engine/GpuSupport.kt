package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.gpu.GpuEngine
import dev.firsttoken.core.gpu.GpuLayout
import dev.firsttoken.core.gpu.GpuProgram

/** The GPU artifacts of a bundle, on any phone whose GPU LiteRT's accelerator takes. [lack] is what this build lacks for it, or null. */
class GpuSupport(private val lack: String?, private val load: (Bundle, Artifact) -> GpuProgram) : AcceleratorSupport {
    override fun refusal(bundle: Bundle, artifact: Artifact): String? = lack ?: GpuLayout.problem(bundle.manifest, artifact) ?: fileProblem(bundle, artifact)

    override fun open(bundle: Bundle, artifact: Artifact): Engine {
        val program = load(bundle, artifact)
        try {
            return GpuEngine(bundle.manifest, artifact, program)
        } catch (error: Throwable) {
            program.close()
            throw error
        }
    }
}
