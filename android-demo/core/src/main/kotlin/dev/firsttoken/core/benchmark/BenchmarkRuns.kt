package dev.firsttoken.core.benchmark

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.generate.Generation
import dev.firsttoken.core.generate.GenerationListener
import dev.firsttoken.core.generate.GenerationOptions
import dev.firsttoken.core.generate.GenerationStatistics
import dev.firsttoken.core.measure.Decode
import dev.firsttoken.core.measure.Failure
import dev.firsttoken.core.measure.Run
import dev.firsttoken.core.measure.Stages
import dev.firsttoken.core.tokenizer.Tokenizer

/** The runs of one request on a loaded engine, or on another one after a run that failed. [loadTime], in nanoseconds, goes to the first run that ends. */
internal class BenchmarkRuns(
    private val host: BenchmarkHost,
    private val request: Request,
    private val engine: LoadedEngine,
    private val tokenizer: Tokenizer,
    private val loadTime: Long,
    private val log: MeasurementLog,
    private val plan: RunPlan,
    private val progress: ProgressFile,
) {
    private val givenUp = HashSet<PromptRequest>()
    private var loadNoted = false
    private var cancelled = false

    fun all() = if (request.cold) cold() else warm()

    private fun cold() {
        val outcome = measure(request.prompts.single(), "cold") // before the progress line: nothing stands between load and run
        progress.phase("running")
        note(outcome)
    }

    private fun warm() {
        progress.phase("warm-up")
        // the longest prompt that this bundle can run
        for (prompt in request.prompts.sortedByDescending { it.tokens }) if (attempt(prompt, "warm-up") || cancelled) break
        progress.phase("running")
        for (prompt in plan.warmRuns()) {
            if (cancelled) break
            if (prompt in givenUp) continue
            if (engine.isFresh) attempt(prompt, "warm-up") // the one before has failed
            if (!cancelled && prompt !in givenUp) attempt(prompt, "warm")
        }
    }

    private fun attempt(prompt: PromptRequest, state: String): Boolean {
        val outcome = if (host.cancelled()) failed(prompt, state, "tokenize", CANCELLED) else measure(prompt, state)
        cancelled = outcome.failure?.message == CANCELLED
        return note(outcome).also { if (!it) givenUp += prompt } // it would fail again and again
    }

    private class Outcome(val prompt: PromptRequest, val state: String, val run: Run?, val failure: Failure?)

    private fun note(outcome: Outcome): Boolean {
        log.ran(engine.artifact, engine.runner) // the first call may have ended the NPU's
        outcome.failure?.let {
            log.add(it)
            progress.failed(it.promptTokens, it.stage, it.message)
        }
        val run = outcome.run ?: return false
        log.add(run)
        progress.run(run.promptTokens, run.state, plan.doneHere, plan.total, run.stages.firstToken)
        return true
    }

    private fun measure(prompt: PromptRequest, state: String): Outcome {
        val statistics = GenerationStatistics()
        val listener = FirstTokenListener(prompt, statistics)
        val loaded = try {
            engine.get()
        } catch (error: Throwable) {
            return failed(prompt, state, "load", failureMessage(error))
        }
        return try {
            if (prompt.tokens + request.decodeTokens > loaded.cacheLength) {
                throw FirstTokenException(
                    "${prompt.tokens} prompt tokens and ${request.decodeTokens} decoded ones do not fit the cache of ${loaded.cacheLength}; " +
                        "measure shorter prompts or export with a longer --cache-length",
                )
            }
            val options = GenerationOptions(maxTokens = request.decodeTokens + 1, chat = request.chat, stopAtEnd = false)
            Generation(loaded, tokenizer, host.clock).run(prompt.text, options, listener, statistics)
            engine.ran()
            when {
                statistics.promptTokens != prompt.tokens -> failed(prompt, state, "tokenize", "the prompt gave ${statistics.promptTokens} tokens, expected ${prompt.tokens}")
                listener.cancelled -> failed(prompt, state, listener.stage, CANCELLED)
                else -> Outcome(prompt, state, run(prompt, state, statistics, listener.render), null)
            }
        } catch (error: Throwable) {
            if (error !is FirstTokenException) engine.drop() // what we refuse never reached the runtime
            failed(prompt, state, listener.stage, failureMessage(error))
        }
    }

    private fun failed(prompt: PromptRequest, state: String, stage: String, message: String) = Outcome(prompt, state, null, Failure(stage, message, prompt.tokens, state))

    private fun run(prompt: PromptRequest, state: String, statistics: GenerationStatistics, render: Long?): Run {
        val load = loadTime.takeUnless { loadNoted }.also { loadNoted = true }
        val stages = with(statistics) { Stages(load, tokenize, prefill, sample, detokenize, render) }
        val now = host.phone.runConditions()
        return Run(
            promptTokens = prompt.tokens,
            state = state,
            pageCache = if (state == "warm") "cached" else "unknown",
            atSeconds = log.seconds(),
            stages = stages,
            decode = if (statistics.newTokens > 1) Decode(statistics.newTokens - 1, maxOf(1, statistics.decode)) else null,
            peakMemoryBytes = now.peakMemoryBytes,
            temperature = now.temperature,
            thermalStatus = now.thermalStatus,
        )
    }

    /** Shows the first token and keeps the stage that a run is in. */
    private inner class FirstTokenListener(private val prompt: PromptRequest, private val statistics: GenerationStatistics) : GenerationListener {
        var render: Long? = null
        var cancelled = false
        private var later: String? = null

        val stage: String get() = later ?: if (statistics.promptTokens > 0) "prefill" else "tokenize"

        override fun onToken(number: Int, text: String, nanoseconds: Long): Boolean {
            if (statistics.promptTokens != prompt.tokens) return false // another prompt than the one asked for
            if (number == 1) {
                later = "render"
                val handed = host.clock.nanoTime()
                render = host.screen.show(text)?.let { maxOf(0, it - handed) }
                later = "decode"
            }
            cancelled = host.cancelled()
            return !cancelled
        }
    }

    private companion object {
        const val CANCELLED = "cancelled on the phone"
    }
}
