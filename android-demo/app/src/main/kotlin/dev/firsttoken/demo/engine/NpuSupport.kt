package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.npu.EmbeddingTable
import dev.firsttoken.core.npu.HostFeed
import dev.firsttoken.core.npu.NpuEngine
import dev.firsttoken.core.npu.NpuLayout
import dev.firsttoken.core.npu.NpuProgram

/** What this build carries for Snapdragon's NPU, each with why not where it is not carried. */
class NpuBuild(val ahead: String?, val device: String?)

/** Whether and how the NPU artifacts of a bundle run on a phone with [soc] (as it names itself, or null where it does not). */
class NpuSupport(private val soc: String?, private val build: NpuBuild, private val load: (Bundle, Artifact) -> NpuProgram) : AcceleratorSupport {
    override fun refusal(bundle: Bundle, artifact: Artifact): String? {
        val (ahead, wanted) = (NpuLayout.facts(artifact).compiled == "ahead") to artifact.needs.soc
        return when {
            ahead && soc == null -> "it is compiled for $wanted, and this phone does not tell apps what it has (Android does since version 12)"
            ahead && !isSame(wanted) -> "it is compiled for $wanted, and this phone has $soc"
            else -> (if (ahead) build.ahead else build.device) ?: NpuLayout.problem(bundle.manifest, artifact) ?: fileProblem(bundle, artifact)
        }
    }

    override fun open(bundle: Bundle, artifact: Artifact): Engine {
        val npu = NpuLayout.facts(artifact)
        val feed = HostFeed(bundle.manifest, npu, EmbeddingTable(bundle.folder, npu.embedding))
        try {
            val program = load(bundle, artifact)
            try {
                return NpuEngine(bundle.manifest, artifact, feed, program)
            } catch (error: Throwable) {
                program.close()
                throw error
            }
        } catch (error: Throwable) {
            feed.close()
            throw error
        }
    }

    /** Vendors add letters to the number ("SM8750-AC"), so the first four digits count; as python/firsttoken/targets/socs.py has it. */
    private fun isSame(wanted: String?) = MODEL.find(soc.orEmpty())?.value?.uppercase() == wanted

    private companion object {
        val MODEL = Regex("^SM\\d{4}", RegexOption.IGNORE_CASE)
    }
}
