package dev.firsttoken.core.benchmark

import dev.firsttoken.core.generate.Clock

/** Adds up what loading takes, from the first line that handles a request; the benchmark's own bookkeeping is paused out of it. */
internal class LoadTimer(private val clock: Clock) {
    private var since = clock.nanoTime()

    /** Nanoseconds while it was going. */
    var spent = 0L
        private set

    fun pause() {
        spent += clock.nanoTime() - since
    }

    fun resume() {
        since = clock.nanoTime()
    }
}
