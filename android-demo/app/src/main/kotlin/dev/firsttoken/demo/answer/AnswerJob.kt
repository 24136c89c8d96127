package dev.firsttoken.demo.answer

import android.os.Handler
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.Screen
import dev.firsttoken.core.chat.ConversationFile
import dev.firsttoken.core.chat.Turn
import dev.firsttoken.core.generate.Clock
import dev.firsttoken.core.generate.SystemClock
import dev.firsttoken.core.measure.Measurement
import java.io.File
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean

/** Answers one question of a conversation at a time off the main thread; goes on while the screen that watches it is turned. */
class AnswerJob(
    private val worker: Executor,
    private val main: Handler,
    private val loaded: LoadedBundle,
    private val screen: Screen,
    private val memory: AnswerMemory,
    private val log: ConversationLog,
    private val clock: Clock = SystemClock,
) {
    /** The last state. Main thread only. */
    var state = AnswerState()
        private set
    private var watcher: ((AnswerState) -> Unit)? = null
    private var cancelled = AtomicBoolean()
    private val told = AtomicBoolean(true)

    @Volatile private var newest = state

    /** Tells [watcher] the state now and every change, on the main thread; null ends that. */
    fun watch(watcher: ((AnswerState) -> Unit)?) {
        this.watcher = watcher
        watcher?.invoke(state)
    }

    /**
     * Starts the answer to the next question of the conversation with the bundle in [folder]; another bundle's conversation ends.
     *
     * Does nothing while another answer is running. Raises [FirstTokenException] for a conversation that is as long as they may be.
     */
    fun start(folder: File, question: String, settings: AnswerSettings) {
        if (state.isRunning) return
        val earlier = if (state.bundle == folder.name) state.answered else emptyList()
        if (earlier.size >= ConversationFile.MOST_TURNS) throw FirstTokenException("this conversation has ${earlier.size} questions, the most that are kept; start a new chat")
        val cancel = AtomicBoolean().also { cancelled = it }
        val begun = AnswerState(folder.name, Phase.LOADING, earlier, Turn(question))
        tell(begun)
        worker.execute {
            if (earlier.isEmpty()) log.forget()
            memory.save(begun) // a process that is killed now does not lose the question
            val end = Answering(folder, settings, begun, loaded, screen, log, clock, cancel, ::publish).run()
            memory.save(end)
            publish(end)
        }
    }

    /** Ends the running answer after the token it is at; a model that is being loaded is loaded to its end. */
    fun cancel() = cancelled.set(true)

    /** Forgets the conversation, also on disk. Does nothing while an answer is running. */
    fun startAnew() {
        if (state.isRunning) return
        tell(AnswerState())
        worker.execute {
            memory.forget()
            log.forget()
        }
    }

    /** Shows a conversation that an earlier process has had. */
    fun restore() {
        if (state.phase != Phase.IDLE) return
        worker.execute { memory.saved()?.let { old -> main.post { if (state.phase == Phase.IDLE) tell(old) } } }
    }

    /** Gives [use] what the conversation measured so far, on the main thread; nothing where nothing was. */
    fun measured(use: (Measurement) -> Unit) = worker.execute { log.measurement()?.let { main.post { use(it) } } }

    /** Frees the model's memory once nothing runs on it. */
    fun forgetModel() = worker.execute(loaded::close)

    private fun tell(state: AnswerState) {
        this.state = state
        watcher?.invoke(state)
    }

    /** Tells the main thread the newest state; it may skip those that came faster than it draws. */
    private fun publish(state: AnswerState) {
        newest = state
        if (told.compareAndSet(true, false)) {
            main.post {
                told.set(true)
                tell(newest)
            }
        }
    }
}
