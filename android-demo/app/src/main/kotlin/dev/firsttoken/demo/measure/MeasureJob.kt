package dev.firsttoken.demo.measure

import android.content.Context
import android.os.Handler
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.Benchmark
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.core.benchmark.BenchmarkHost
import dev.firsttoken.core.benchmark.ProgressReader
import dev.firsttoken.core.benchmark.Request
import dev.firsttoken.core.benchmark.RequestText
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.demo.AppFolders
import dev.firsttoken.demo.R
import dev.firsttoken.demo.answer.LoadedBundle
import dev.firsttoken.demo.bundles.BundleLibrary
import java.io.File
import java.io.IOException
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean

/** Benchmarks chosen bundles one after the other, off the main thread; every finished run is on disk at once. */
class MeasureJob(
    private val context: Context,
    private val worker: Executor,
    private val main: Handler,
    private val loaded: LoadedBundle,
    private val folders: AppFolders,
    private val isInFront: () -> Boolean,
    private val host: (BenchmarkFolders, () -> Boolean) -> BenchmarkHost,
) {
    private val session = Session(File(context.filesDir, "session.txt"), folders::own)
    private val cancelled = AtomicBoolean()
    private val watchers = LinkedHashSet<(MeasureState) -> Unit>()

    /** Main thread only. */
    var state = MeasureState()
        private set

    /** Tells [watcher] the state now and every change, on the main thread. */
    fun watch(watcher: (MeasureState) -> Unit) {
        watchers += watcher
        watcher(state)
    }

    fun unwatch(watcher: (MeasureState) -> Unit) {
        watchers -= watcher
    }

    /** Shows what an earlier process has measured. */
    fun restore() {
        if (state.isRunning || state.results != null) return
        worker.execute { session.results()?.let { found -> main.post { if (!state.isRunning) tell(state.copy(results = found)) } } }
    }

    fun cancel() = cancelled.set(true)

    /** Starts measuring. Does nothing while it runs. */
    fun start(options: MeasureOptions) {
        if (state.isRunning) return
        cancelled.set(false)
        tell(MeasureState(isRunning = true))
        worker.execute {
            var problem: String? = null
            try {
                loaded.close() // what was tried before takes memory
                session.begin()
                for (key in options.bundles) if (!cancelled.get()) problem = measure(key, options) ?: problem
            } catch (error: IOException) {
                problem = "the measurement cannot be written (${error.message}); free some space on the phone"
            }
            val results = session.results()
            val end = when {
                cancelled.get() -> MeasureState(message = context.getString(R.string.measure_cancelled)) // what was cut short is no problem
                problem != null -> MeasureState(message = problem, isProblem = true)
                else -> MeasureState(message = context.getString(R.string.benchmark_done))
            }
            main.post { tell(end.copy(results = results)) }
        }
    }

    /** Measures one bundle; returns why that failed, or null. */
    private fun measure(key: String, options: MeasureOptions): String? {
        val places = folders.own()
        var problem: String? = null
        try {
            val bundle = Bundle.open(places.bundle(key))
            val title = BundleLibrary.title(bundle.manifest)
            post { it.copy(bundle = title, phase = context.getString(R.string.phase_prompts), done = 0, total = 0) }
            val promptText = context.assets.open(PROMPTS).use { it.readBytes().toString(Charsets.UTF_8) }
            for (request in MeasureRequests(promptText).of(bundle, options)) {
                if (cancelled.get()) break
                RequestText.write(request, places.request(request.id))
                session.add(request.id)
                problem = carryOut(request, places) ?: problem
                session.results().let { results -> post { it.copy(results = results) } }
            }
        } catch (refusal: FirstTokenException) {
            problem = refusal.message
        }
        return problem
    }

    private fun carryOut(request: Request, places: BenchmarkFolders): String? {
        val watching = ProgressWatch(ProgressReader(places.progress(request.id)), context, ::post).apply { start() }
        try {
            if (request.cold) ColdRun(context, cancelled::get, isInFront, ::tellThatItWaits).carryOut(request.id, places) else Benchmark(host(places, cancelled::get)).carryOut(request.id)
        } finally {
            watching.stop()
        }
        return ProgressReader(places.progress(request.id)).next().lastOrNull { it.event == "refused" || it.event == "failed" }?.message
    }

    private fun tellThatItWaits() = post { it.copy(phase = context.getString(R.string.phase_waiting_for_front)) }

    /** Changes the state from any thread. */
    private fun post(change: (MeasureState) -> MeasureState) {
        main.post { tell(change(state)) }
    }

    private fun tell(state: MeasureState) {
        this.state = state
        watchers.toList().forEach { it(state) } // one that is told the end leaves
    }

    private companion object {
        const val PROMPTS = "held_out.txt"
    }
}
