package dev.firsttoken.demo.answer

import android.os.Handler
import dev.firsttoken.core.benchmark.Screen
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.generate.Clock
import dev.firsttoken.core.generate.Generation
import dev.firsttoken.core.generate.GenerationListener
import dev.firsttoken.core.generate.GenerationStatistics
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.generate.SystemClock
import dev.firsttoken.core.measure.Stages
import java.io.File
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean

/** Answers one prompt at a time off the main thread; goes on while the screen that watches it is turned. */
class AnswerJob(
    private val worker: Executor,
    private val main: Handler,
    private val loaded: LoadedBundle,
    private val screen: Screen,
    private val memory: AnswerMemory,
    private val clock: Clock = SystemClock,
) {
    /** The last state. Main thread only. */
    var state = AnswerState()
        private set
    private var watcher: ((AnswerState) -> Unit)? = null
    private var cancelled = AtomicBoolean()

    /** Tells [watcher] the state now and every change, on the main thread; null ends that. */
    fun watch(watcher: ((AnswerState) -> Unit)?) {
        this.watcher = watcher
        watcher?.invoke(state)
    }

    /** Starts an answer. Does nothing while another is running. */
    fun start(folder: File, prompt: String, settings: AnswerSettings) {
        if (state.isRunning) return
        val cancel = AtomicBoolean().also { cancelled = it }
        tell(AnswerState(folder.name, Phase.LOADING))
        worker.execute { Answering(folder, cancel).run(prompt, settings) }
    }

    /** Ends the running answer after the token it is at; a model that is being loaded is loaded to its end. */
    fun cancel() = cancelled.set(true)

    /** Shows an answer that an earlier process has given. */
    fun restore() {
        if (state.phase != Phase.IDLE) return
        worker.execute { memory.saved()?.let { old -> main.post { if (state.phase == Phase.IDLE) tell(old) } } }
    }

    /** Frees the model's memory once nothing runs on it. */
    fun forgetModel() = worker.execute(loaded::close)

    private fun tell(state: AnswerState) {
        this.state = state
        watcher?.invoke(state)
    }

    /** One answer, on the worker thread. */
    private inner class Answering(private val folder: File, private val cancel: AtomicBoolean) : GenerationListener {
        private val statistics = GenerationStatistics()
        private val text = StringBuilder()
        private var now = AnswerState(folder.name, Phase.LOADING)
        private var load: Long? = null
        private var ready: LoadedBundle.Ready? = null
        private val told = AtomicBoolean(true)

        @Volatile private var newest = now

        fun run(prompt: String, settings: AnswerSettings) {
            val end = try {
                answer(prompt, settings)
            } catch (error: Throwable) {
                loaded.close() // a runtime that failed may be in any state
                now.copy(phase = Phase.FAILED, error = failureMessage(error))
            }
            memory.save(end)
            publish(end)
        }

        private fun answer(prompt: String, settings: AnswerSettings): AnswerState {
            val begun = clock.nanoTime()
            val isLoaded = loaded.holds(folder, settings.threads)
            val ready = loaded.open(folder, settings.threads)
            if (!isLoaded) load = clock.nanoTime() - begun
            this.ready = ready
            if (cancel.get()) return now.copy(phase = Phase.CANCELLED)
            publish(now.copy(phase = Phase.READING))
            Generation(ready.engine, ready.tokenizer, clock).run(prompt, settings.options, this, statistics)
            val phase = if (statistics.stopped == Stop.CANCELLED) Phase.CANCELLED else Phase.DONE
            return now.copy(phase = phase, text = text.toString(), promptTokens = statistics.promptTokens, stop = statistics.stopped)
        }

        override fun onToken(number: Int, text: String, nanoseconds: Long): Boolean {
            this.text.append(text)
            val stages = if (number == 1) firstToken() else now.stages
            publish(
                AnswerState(folder.name, Phase.GENERATING, this.text.toString(), stages, statistics.promptTokens, number, statistics.tokensPerSecond, artifact = ready?.artifact),
            )
            return !cancel.get()
        }

        override fun onRest(text: String) {
            this.text.append(text)
        }

        /** Shows the first token and waits for its frame, which is where TTFT ends. */
        private fun firstToken(): Stages {
            val handed = clock.nanoTime()
            val render = screen.show(text.toString())?.let { maxOf(0L, it - handed) }
            return with(statistics) { Stages(load, tokenize, prefill, sample, detokenize, render) }
        }

        /** Tells the main thread the newest state; it may skip those that came faster than it draws. */
        private fun publish(state: AnswerState) {
            now = state
            newest = state
            if (told.compareAndSet(true, false)) {
                main.post {
                    told.set(true)
                    tell(newest)
                }
            }
        }
    }
}
