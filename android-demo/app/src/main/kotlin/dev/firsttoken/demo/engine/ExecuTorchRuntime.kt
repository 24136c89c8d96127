package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Tensor
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import java.io.File

/** .pte bundles on the CPU. [number] is the version that the APK carries, or null where it carries none. */
class ExecuTorchRuntime(private val number: String?, private val load: (File, Int) -> ExecuTorchProgram = ::ModuleProgram) : Runtime {
    override val name = "executorch"
    override val version: String get() = if (number == null) "no ExecuTorch" else "ExecuTorch $number"

    override fun refusal(manifest: Manifest): String? =
        when {
            number == null -> "this build of the app carries no ExecuTorch; build it with Gradle, which fetches it"
            !isAtLeast(number, manifest.cpu.needs.minRuntime) -> "it needs ExecuTorch ${manifest.cpu.needs.minRuntime}, this app carries $number"
            manifest.cpu.methods.none { it.name == "forward" } -> "it has no method 'forward'; export it again"
            manifest.cpu.methods.any { it.name == "forward" && it.inputs.map(Tensor::name) != INPUTS } -> "it was written by an older firsttoken; export it again"
            manifest.cpu.states.any { it.heldBy != "artifact" } -> "its cache is held by the host; .pte bundles keep it inside, export it again"
            else -> null
        }

    override fun artifact(bundle: Bundle): ArtifactInUse? = if (bundle.manifest.accelerated.isEmpty()) null else ArtifactInUse(0, CPU_ONLY)

    override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine {
        if (choice == ArtifactChoice.NPU) throw FirstTokenException("its NPU artifact does not run here: $CPU_ONLY")
        val fallback = CPU_ONLY.takeIf { bundle.manifest.accelerated.isNotEmpty() && choice == ArtifactChoice.AUTO }
        return ExecuTorchEngine(bundle.manifest, load(bundle.artifact(), threads), fallback)
    }

    private companion object {
        val INPUTS = listOf("tokens", "cache_position")
        const val CPU_ONLY = "this app carries ExecuTorch without Qualcomm's backend"
    }
}
