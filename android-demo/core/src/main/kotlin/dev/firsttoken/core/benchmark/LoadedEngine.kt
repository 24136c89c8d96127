package dev.firsttoken.core.benchmark

import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.RunnerInUse
import java.io.Closeable

/** The engine of a benchmark's runs; one that failed may be in any state, so the next run gets another. [open] may raise anything that a runtime raises. */
internal class LoadedEngine(first: Engine, private val open: () -> Engine) : Closeable {
    private var engine: Engine? = first

    /** Which artifact ran last. */
    var artifact: ArtifactInUse = first.artifact
        private set

    /** And how its runtime was called. */
    var runner: RunnerInUse? = first.runner
        private set

    /** Whether no run has ended on it. */
    var isFresh = true
        private set

    fun get(): Engine = engine ?: open().also { engine = it }

    /** A run has ended well. */
    fun ran() {
        isFresh = false
        note()
    }

    /** A run has failed. */
    fun drop() {
        note()
        close()
    }

    override fun close() {
        engine?.close()
        engine = null
        isFresh = true
    }

    private fun note() {
        engine?.let {
            artifact = it.artifact
            runner = it.runner
        }
    }
}
