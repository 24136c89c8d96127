package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.Engine
import java.io.File

/** .pte bundles on the CPU. [number] is the version that the APK carries, or null where it carries none. */
class ExecuTorchRuntime(private val number: String?, private val load: (File, Int) -> ExecuTorchProgram = ::ModuleProgram) : Runtime {
    override val name = "executorch"
    override val version: String get() = if (number == null) "no ExecuTorch" else "ExecuTorch $number"

    override fun refusal(manifest: Manifest): String? =
        when {
            number == null -> "this build of the app carries no ExecuTorch; build it with Gradle, which fetches it"
            !isAtLeast(number, manifest.target.minRuntime) -> "it needs ExecuTorch ${manifest.target.minRuntime}, this app carries $number"
            manifest.methods.none { it.name == "forward" } -> "it has no method 'forward'; export it again"
            manifest.cache.heldBy != "artifact" -> "its cache is held by the ${manifest.cache.heldBy}; .pte bundles keep it inside, export it again"
            else -> null
        }

    override fun open(bundle: Bundle, threads: Int): Engine = ExecuTorchEngine(bundle.manifest, load(bundle.artifact(), threads))
}
