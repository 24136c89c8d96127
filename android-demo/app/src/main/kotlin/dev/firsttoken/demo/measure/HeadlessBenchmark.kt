package dev.firsttoken.demo.measure

import dev.firsttoken.core.benchmark.Benchmark
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.core.benchmark.BenchmarkHost
import dev.firsttoken.core.benchmark.ProgressFile
import dev.firsttoken.core.benchmark.Request
import dev.firsttoken.core.generate.SystemClock
import dev.firsttoken.demo.answer.LoadedBundle
import java.io.File
import java.io.IOException
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.atomic.AtomicReference

/** What became of a request to start. */
sealed interface Started {
    /** It is carried out, or already was being so; [progress] tells how. */
    class Running(val progress: File) : Started

    /** It is not carried out, which its progress file says too where there can be one. */
    class Refused(val message: String) : Started
}

/** Carries out the requests that come by intent, one at a time, as PROTOCOL.md says. */
class HeadlessBenchmark(
    private val worker: Executor,
    private val loaded: LoadedBundle,
    private val folders: () -> BenchmarkFolders?,
    private val isLocked: () -> Boolean,
    /** Whether a benchmark runs that was started in the app. */
    private val isOtherRunning: () -> Boolean,
    private val host: (BenchmarkFolders, () -> Boolean) -> BenchmarkHost,
) {
    private val running = AtomicReference<String?>()
    private var cancelled = AtomicBoolean()

    val isRunning: Boolean get() = running.get() != null

    /** Starts request [id], which comes from outside and may be anything. Main thread. */
    fun start(id: String): Started {
        if (!Request.isKey(id)) return Started.Refused("the id of the request is '${id.take(40)}'; expected 32 hexadecimal digits")
        val places = folders() ?: return Started.Refused("the phone's shared storage is away; nothing can be measured without it")
        return try {
            start(id, places)
        } catch (error: IOException) {
            Started.Refused("the measurement cannot be written (${error.message}); free some space on the phone")
        }
    }

    /** Ends the benchmark after the token it is at. */
    fun cancel() = cancelled.set(true)

    private fun start(id: String, places: BenchmarkFolders): Started {
        if (running.get() == id) return Started.Running(places.progress(id))
        val benchmark = Benchmark(host(places, cancelled::get))
        val refusal = when {
            running.get() != null || isOtherRunning() -> "another benchmark is running; wait for it, or stop it on the phone"
            isLocked() -> "the phone is locked; unlock it, then run this again"
            else -> null
        }
        if (refusal != null) {
            benchmark.refuse(id, refusal)
            return Started.Refused(refusal)
        }
        ProgressFile(places.progress(id), SystemClock).close() // where it cannot be written, nothing can be told later
        running.set(id)
        cancelled.set(false)
        worker.execute {
            try {
                if (places.request(id).isFile) loaded.close() // what was tried before takes memory; an id without a request must not cost it
                benchmark.carryOut(id)
            } finally {
                running.set(null)
            }
        }
        return Started.Running(places.progress(id))
    }
}
