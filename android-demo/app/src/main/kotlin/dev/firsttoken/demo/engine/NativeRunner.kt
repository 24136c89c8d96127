package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.PackedFile
import dev.firsttoken.core.weights.CpuKind
import dev.firsttoken.core.weights.ShippedWeights
import dev.firsttoken.core.weights.WeightCache
import java.io.File

/**
 * The app's own library over LiteRT's C API. [findLack] says why it cannot be used, or null; it is asked once, when that is first wanted, since it loads libraries. So is [findShipped], for what of a
 * bundle's packed weights can be used, where nothing lacks.
 */
class NativeRunner(findLack: () -> String?, private val check: (Bundle) -> Unit = {}, findShipped: () -> ShippedWeights? = { null }, private val load: (Bundle, Int, PackedFile?) -> TfliteProgram) {
    val lack: String? by lazy(findLack)

    val shipped: ShippedWeights? by lazy { if (lack == null) findShipped() else null }

    /** Raises `FirstTokenException` where the CPU's artifact of [bundle] is damaged, which no runner is to be given. */
    fun checkArtifact(bundle: Bundle) = check(bundle)

    /** Loads the CPU's artifact of [bundle], with [packed], which [shipped] has chosen, or null. May raise anything that the runtime raises. */
    fun open(bundle: Bundle, threads: Int, packed: PackedFile?): TfliteProgram = load(bundle, threads, packed)

    companion object {
        private const val OWN = "firsttoken_litert" // as System.loadLibrary names it
        private const val LITERT = "libLiteRt.so"
        private const val PACKAGE = "ai-edge-litert" // LiteRT's in Python, of the same sources and version

        /**
         * Of a build that carries [tflite]: it keeps packed weights in the folder [cache], and finds LiteRT's [library] by the linker's ways, or by its path. [later] does what no
         * answer has to wait for.
         */
        fun of(tflite: TfliteBuild, cache: File, library: String = LITERT, later: (() -> Unit) -> Unit = ::onAnotherThread): NativeRunner {
            val weights = WeightCache(cache, "litert-${tflite.number}", later)
            fun facts(bundle: Bundle) = bundle.manifest.facts(bundle.manifest.cpu)
            fun shipped() = ShippedWeights(CpuKind.here(NativeFunctions::capability), PACKAGE, tflite.number, weights) { takes(it, cache, library) }
            return NativeRunner({ lack(tflite, library) }, { weights.check(it.artifact(), facts(it).sha256) }, ::shipped) { bundle, threads, packed ->
                val facts = facts(bundle)
                if (packed != null) loaded(bundle, packed, threads, weights, library)
                else weights.load(facts.sha256, facts.bytes) { kept -> NativeProgram(bundle.artifact(), threads, kept, library) }
            }
        }

        /** Loads with a bundle's packed weights, and makes sure that they were to the end what they had been before. */
        private fun loaded(bundle: Bundle, packed: PackedFile, threads: Int, weights: WeightCache, library: String): TfliteProgram {
            val program = NativeProgram(bundle.artifact(), threads, bundle.packed(packed), library, isOnlyRead = true)
            try {
                weights.check(bundle.packed(packed), bundle.manifest.files.getValue(packed.file).sha256)
            } catch (error: Throwable) {
                program.close()
                throw error
            }
            return program
        }

        private fun takes(packed: File, scratch: File, library: String): Boolean =
            try {
                NativeFunctions.takes(library.toByteArray(), packed.path.toByteArray(), scratch.path.toByteArray())
            } catch (error: IllegalStateException) {
                throw FirstTokenException(error.message ?: "LiteRT does not say whether it takes ${packed.name}")
            }

        private fun onAnotherThread(work: () -> Unit) = Thread(work, "packed weights").apply { priority = Thread.MIN_PRIORITY }.start()

        private fun lack(tflite: TfliteBuild, library: String): String? =
            when {
                !tflite.isLiteRt -> "this app carries ${tflite.title}, and it needs LiteRT 2; build it with Gradle"
                else -> try {
                    System.loadLibrary(OWN)
                    NativeFunctions.find(library.toByteArray())
                    null
                } catch (missing: UnsatisfiedLinkError) {
                    "this app was built without lib$OWN.so, or not for this phone's processor (${missing.message}); build it with Gradle and the NDK"
                } catch (missing: IllegalStateException) { // what the library said of LiteRT's
                    missing.message ?: "$library cannot be used"
                }
            }
    }
}
