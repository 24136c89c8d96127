package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.weights.WeightCache
import java.io.File

/** The app's own library over LiteRT's C API. [findLack] says why it cannot be used, or null; it is asked once, when that is first wanted, since it loads libraries. */
class NativeRunner(findLack: () -> String?, private val check: (Bundle) -> Unit = {}, private val load: (Bundle, Int) -> TfliteProgram) {
    val lack: String? by lazy(findLack)

    /** Raises `FirstTokenException` where the CPU's artifact of [bundle] is damaged, which no runner is to be given. */
    fun checkArtifact(bundle: Bundle) = check(bundle)

    /** Loads the CPU's artifact of [bundle]. May raise anything that the runtime raises. */
    fun open(bundle: Bundle, threads: Int): TfliteProgram = load(bundle, threads)

    companion object {
        private const val OWN = "firsttoken_litert" // as System.loadLibrary names it
        private const val LITERT = "libLiteRt.so"

        /**
         * Of a build that carries [tflite]: it keeps packed weights in the folder [cache], and finds LiteRT's [library] by the linker's ways, or by its path. [later] does what no
         * answer has to wait for.
         */
        fun of(tflite: TfliteBuild, cache: File, library: String = LITERT, later: (() -> Unit) -> Unit = ::onAnotherThread): NativeRunner {
            val weights = WeightCache(cache, "litert-${tflite.number}", later)
            fun facts(bundle: Bundle) = bundle.manifest.facts(bundle.manifest.cpu)
            return NativeRunner({ lack(tflite, library) }, { weights.check(it.artifact(), facts(it).sha256) }) { bundle, threads ->
                val facts = facts(bundle)
                weights.load(facts.sha256, facts.bytes) { packed -> NativeProgram(bundle.artifact(), threads, packed, library) }
            }
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
