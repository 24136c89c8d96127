package dev.firsttoken.demo.answer

import dev.firsttoken.core.benchmark.Screen
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.chat.Dialogue
import dev.firsttoken.core.chat.ToolTokens
import dev.firsttoken.core.generate.Clock
import dev.firsttoken.core.generate.Generation
import dev.firsttoken.core.generate.GenerationListener
import dev.firsttoken.core.generate.GenerationStatistics
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.measure.Stages
import java.io.File
import java.util.concurrent.atomic.AtomicBoolean

/** One answer, on the worker thread: from [begun], telling every state to [publish]. */
internal class Answering(
    private val folder: File,
    private val settings: AnswerSettings,
    begun: AnswerState,
    private val loaded: LoadedBundle,
    private val screen: Screen,
    private val log: ConversationLog,
    private val clock: Clock,
    private val cancel: AtomicBoolean,
    private val publish: (AnswerState) -> Unit,
) : GenerationListener {
    private val statistics = GenerationStatistics()
    private val text = StringBuilder()
    private var now = begun
    private var turn = begun.turn!!
    private var load: Long? = null
    private var isEngineTouched = false

    /** Returns how it ended. */
    fun run(): AnswerState =
        try {
            answer()
        } catch (error: Throwable) {
            if (isEngineTouched || error is LinkageError || error is OutOfMemoryError) loaded.close() // a runtime that failed may be in any state
            now.copy(phase = Phase.FAILED, turn = turn, error = failureMessage(error))
        }

    private fun answer(): AnswerState {
        val before = log.conditions()
        val isFirst = !loaded.hasLoaded
        val start = clock.nanoTime()
        val isLoaded = loaded.holds(folder, settings.threads)
        val ready = loaded.open(folder, settings.threads)
        if (!isLoaded) load = clock.nanoTime() - start
        if (cancel.get()) return now.copy(phase = Phase.CANCELLED)
        val manifest = ready.bundle.manifest
        val dialogue = Dialogue(manifest)
        turn = turn.copy(beginsInThought = dialogue.beginsInThought)
        tell(Phase.READING)
        Generation(ready.engine, ready.tokenizer, clock).answer(settings.options, this, statistics, ToolTokens.of(ready.tokenizer, manifest)) {
            val system = settings.system ?: manifest.keptPrompt?.system?.takeIf { dialogue.takesSystem }
            dialogue.encode(ready.tokenizer, system, now.earlier, turn.question, ready.engine.cacheLength).also { isEngineTouched = true }
        }
        turn = turn.copy(text = text.toString(), promptTokens = statistics.promptTokens, cachedTokens = statistics.cachedTokens, stop = statistics.stopped, artifact = ready.artifact, runner = ready.engine.runner)
        log.add(ready, turn, now.earlier.size + 1, isFirst, statistics, before)
        return now.copy(phase = if (statistics.stopped == Stop.CANCELLED) Phase.CANCELLED else Phase.DONE, turn = turn)
    }

    override fun onToken(number: Int, text: String, nanoseconds: Long): Boolean {
        this.text.append(text)
        turn = turn.copy(
            text = this.text.toString(), promptTokens = statistics.promptTokens, cachedTokens = statistics.cachedTokens, newTokens = number,
            tokensPerSecond = statistics.tokensPerSecond,
        )
        if (number == 1) turn = turn.copy(stages = firstToken())
        if (turn.firstAnswer == null) turn = turn.copy(firstAnswer = firstAnswer())
        tell(Phase.GENERATING)
        return !cancel.get()
    }

    override fun onRest(text: String) {
        this.text.append(text)
    }

    /** Shows the first token and waits for its frame, which is where TTFT ends. A thought is folded: its frame is the one that says so. */
    private fun firstToken(): Stages {
        val parts = turn.parts
        if (!parts.isOver) tell(Phase.GENERATING)
        val handed = clock.nanoTime()
        val render = screen.show(parts.answer)?.let { maxOf(0L, it - handed) }
        return with(statistics) { Stages(load, tokenize, prefill, sample, detokenize, render) }
    }

    /** Nanoseconds to the first token behind the thoughts, once it is there: the first token's stages and the decoding since. */
    private fun firstAnswer(): Long? = turn.stages?.takeIf { turn.parts.isBehindThoughts }?.let { it.firstToken + statistics.decode }

    private fun tell(phase: Phase) {
        now = now.copy(phase = phase, turn = turn)
        publish(now)
    }
}
