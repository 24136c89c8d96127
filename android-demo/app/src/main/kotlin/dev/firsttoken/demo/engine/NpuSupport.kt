package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Npu
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.npu.EmbeddingTable
import dev.firsttoken.core.npu.HostFeed
import dev.firsttoken.core.npu.NpuEngine
import dev.firsttoken.core.npu.NpuLayout
import dev.firsttoken.core.npu.NpuProgram
import java.io.File

/** What this build carries for Snapdragon's NPU, each with why not where it is not carried. */
class NpuBuild(val ahead: String?, val device: String?)

/** Whether and how a bundle's NPU artifact runs on a phone with [soc] (as it names itself, or null where it does not). */
class NpuSupport(private val soc: String?, private val build: NpuBuild, private val load: (File, Npu) -> NpuProgram) {
    /** Why the NPU's artifact of [bundle], which has one, is not run here, in one sentence; null where it is to be tried. */
    fun refusal(bundle: Bundle): String? {
        val npu = checkNotNull(bundle.manifest.npu)
        return when {
            npu.compiled == "ahead" && soc == null -> "it is compiled for ${npu.soc}, and this phone does not tell apps what it has (Android does since version 12)"
            npu.compiled == "ahead" && !isSame(npu.soc) -> "it is compiled for ${npu.soc}, and this phone has $soc"
            else -> (if (npu.compiled == "ahead") build.ahead else build.device) ?: NpuLayout.problem(bundle.manifest, npu) ?: fileProblem(bundle)
        }
    }

    /** Loads it. May raise anything that the runtime raises. */
    fun open(bundle: Bundle): Engine {
        val npu = checkNotNull(bundle.manifest.npu)
        val file = bundle.npuArtifact()
        val feed = HostFeed(npu, EmbeddingTable(bundle.folder, npu.embedding))
        try {
            val program = load(file, npu)
            try {
                return NpuEngine(bundle.manifest, npu, feed, program)
            } catch (error: Throwable) {
                program.close()
                throw error
            }
        } catch (error: Throwable) {
            feed.close()
            throw error
        }
    }

    /** Vendors add letters to the number ("SM8750-AC"), so the first four digits count; as python/firsttoken/device/socs.py has it. */
    private fun isSame(wanted: String?) = MODEL.find(soc.orEmpty())?.value?.uppercase() == wanted

    private fun fileProblem(bundle: Bundle): String? =
        try {
            bundle.npuArtifact()
            null
        } catch (damaged: FirstTokenException) {
            damaged.message
        }

    private companion object {
        val MODEL = Regex("^SM\\d{4}", RegexOption.IGNORE_CASE)
    }
}
