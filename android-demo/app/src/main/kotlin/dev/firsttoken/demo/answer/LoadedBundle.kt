package dev.firsttoken.demo.answer

import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.tokenizer.Tokenizer
import java.io.File

/** The one bundle that is loaded, kept for the next prompt. Used by the worker thread only. */
class LoadedBundle(private val engines: Engines) {
    class Ready(val folder: File, val threads: Int, val bundle: Bundle, val tokenizer: Tokenizer, val engine: Engine) {
        /** Which artifact runs, now; null where the bundle has but the CPU's. */
        val artifact: ArtifactInUse? get() = if (bundle.manifest.accelerated.isEmpty()) null else engine.artifact
    }

    private var ready: Ready? = null

    /** Whether this process has loaded a bundle for an answer before. */
    var hasLoaded = false
        private set

    /** Whether [folder] is loaded with [threads] threads. */
    fun holds(folder: File, threads: Int): Boolean = ready?.let { it.folder == folder && it.threads == threads } == true

    /** Loads [folder] where it is not loaded. May raise anything that a runtime raises. */
    fun open(folder: File, threads: Int): Ready {
        ready?.let { if (holds(folder, threads)) return it }
        close()
        hasLoaded = true
        val bundle = Bundle.open(folder)
        val tokenizer = bundle.openTokenizer()
        return Ready(folder, threads, bundle, tokenizer, engines.open(bundle, threads)).also { ready = it }
    }

    /** Frees its memory. */
    fun close() {
        ready?.engine?.close()
        ready = null
    }
}
