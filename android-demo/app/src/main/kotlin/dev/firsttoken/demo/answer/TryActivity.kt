package dev.firsttoken.demo.answer

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.inputmethod.InputMethodManager
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.ScrollView
import android.widget.TextView
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.chat.Dialogue
import dev.firsttoken.core.chat.Turn
import dev.firsttoken.demo.R
import dev.firsttoken.demo.measure.shareMeasurement
import dev.firsttoken.demo.screen.FrameScreen
import dev.firsttoken.demo.services
import dev.firsttoken.demo.view.StageText
import dev.firsttoken.demo.view.showAppBar
import java.io.File

/** A conversation: questions and their streamed answers, each with its first-token time as a line that opens to the stages. */
class TryActivity : Activity() {
    private lateinit var prompt: EditText
    private lateinit var send: Button
    private lateinit var cancel: Button
    private lateinit var startAnew: View
    private lateinit var share: View
    private lateinit var phase: TextView
    private lateinit var busy: ProgressBar
    private lateinit var scroll: ScrollView
    private lateinit var earlier: LinearLayout
    private lateinit var newest: TurnView
    private lateinit var frames: FrameScreen
    private lateinit var settings: SettingsPanel
    private lateinit var folder: File
    private var shown: List<Turn> = emptyList() // what is in the list of earlier turns
    private var wasRunning = false

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        val found = try {
            services.library.folder(intent.getStringExtra(KEY).orEmpty())
        } catch (gone: FirstTokenException) { // removed, or the phone was started again without it
            finish()
            return
        }
        folder = found
        setContentView(R.layout.activity_try)
        prompt = findViewById(R.id.prompt)
        send = findViewById(R.id.send)
        cancel = findViewById(R.id.cancel)
        startAnew = findViewById(R.id.new_chat)
        share = findViewById(R.id.share)
        phase = findViewById(R.id.phase)
        busy = findViewById(R.id.busy)
        scroll = findViewById(R.id.scroll)
        earlier = findViewById(R.id.earlier)
        newest = TurnView(findViewById(R.id.newest), ::showShare)
        frames = FrameScreen(newest.answer, services.frames)
        showAppBar("", hasUp = true)
        send.setOnClickListener { ask() }
        cancel.setOnClickListener { services.answers.cancel() }
        startAnew.setOnClickListener { services.answers.startAnew() }
        share.setOnClickListener { services.answers.measured { if (!isDestroyed) shareMeasurement(this, it) { problem -> say(problem, isProblem = true) } } }
        settings = SettingsPanel(this, saved)
        saved?.let { newest.unfold(it.getBoolean(THOUGHT), it.getBoolean(STAGES)) }
        sayWhatTheBundleTakes()
        services.answers.restore()
    }

    override fun onPostCreate(saved: Bundle?) {
        super.onPostCreate(saved)
        if (!isFinishing) settings.showWhatCounts()
    }

    override fun onStart() {
        super.onStart()
        if (isFinishing) return
        services.screen.attach(frames)
        services.answers.watch(::show)
    }

    override fun onStop() {
        super.onStop()
        if (!::frames.isInitialized) return
        services.answers.watch(null)
        services.screen.detach(frames)
    }

    override fun onDestroy() {
        super.onDestroy()
        if (isFinishing) services.answers.cancel() // nobody waits for it; turning the phone does not finish the screen
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        settings.save(state)
        state.putBoolean(THOUGHT, newest.isThoughtOpen)
        state.putBoolean(STAGES, newest.areStagesOpen)
    }

    /** Reads the manifest off the main thread. One that cannot be read will be said by the first question. */
    private fun sayWhatTheBundleTakes() {
        val library = services.library
        services.reader.execute {
            val title = library.title(folder)
            val dialogue = library.dialogue(folder)
            runOnUiThread {
                actionBar?.title = title
                dialogue?.let(::sayWhatItTakes)
            }
        }
    }

    /** Says before the first question why questions will not be turns of a conversation, or that no system prompt is taken. */
    private fun sayWhatItTakes(dialogue: Dialogue) {
        val reason = dialogue.alone
        val alone = findViewById<TextView>(R.id.alone)
        alone.visibility = if (reason == null) View.GONE else View.VISIBLE
        if (reason != null) alone.text = getString(R.string.alone, reason)
        if (!dialogue.takesSystem) findViewById<TextView>(R.id.system_label).setText(R.string.system_not_taken)
    }

    private fun ask() {
        val text = prompt.text.toString()
        if (text.isBlank()) {
            prompt.error = getString(R.string.prompt_missing)
            return
        }
        // the keyboard would cover where the answer appears
        (getSystemService(INPUT_METHOD_SERVICE) as InputMethodManager).hideSoftInputFromWindow(prompt.windowToken, 0)
        try {
            val set = settings.read()
            if (services.isMeasuring) {
                say(getString(R.string.benchmark_first), isProblem = true)
                return
            }
            settings.close()
            newest.unfold(thought = false, stages = false)
            services.answers.start(folder, text, set)
            prompt.text.clear()
        } catch (refusal: FirstTokenException) {
            say(refusal.message.orEmpty(), isProblem = true)
        }
    }

    private fun show(last: AnswerState) {
        send.visibility = if (last.isRunning) View.GONE else View.VISIBLE
        cancel.visibility = if (last.isRunning) View.VISIBLE else View.GONE
        busy.visibility = cancel.visibility
        // a conversation with another bundle is not this one's
        val state = if (last.bundle == folder.name) last else AnswerState(phase = if (last.isRunning) Phase.LOADING else Phase.IDLE)
        val turn = state.turn
        startAnew.visibility = if (turn == null || state.isRunning) View.GONE else View.VISIBLE
        say(phaseText(state), state.phase == Phase.FAILED)
        showEarlier(state.earlier)
        if (turn == null) findViewById<View>(R.id.newest).visibility = View.GONE else newest.show(turn)
        showShare()
        if (state.phase == Phase.FAILED && wasRunning && prompt.text.isEmpty()) prompt.setText(turn?.question) // to be sent again
        if (state.isRunning || wasRunning) scroll.post { scroll.scrollTo(0, scroll.getChildAt(0).height) }
        wasRunning = state.isRunning
    }

    /** The measurement is shared from where its newest figures are. */
    private fun showShare() {
        val state = services.answers.state
        share.visibility = if (newest.areStagesOpen && state.stages != null && !state.isRunning && state.bundle == folder.name) View.VISIBLE else View.GONE
    }

    private fun showEarlier(turns: List<Turn>) {
        if (turns == shown) return
        shown = turns
        earlier.removeAllViews()
        for (turn in turns) {
            val view = layoutInflater.inflate(R.layout.turn, earlier, false)
            view.isSaveFromParentEnabled = false // their ids are the newest's
            earlier.addView(view)
            TurnView(view).show(turn)
        }
    }

    private fun say(text: CharSequence, isProblem: Boolean) {
        phase.text = text
        phase.setTextColor(getColor(if (isProblem) R.color.warning else R.color.ink_soft))
    }

    private fun phaseText(state: AnswerState): CharSequence =
        when (state.phase) {
            Phase.IDLE -> getString(R.string.phase_idle)
            Phase.LOADING -> getString(R.string.phase_loading)
            Phase.READING -> getString(R.string.phase_reading)
            Phase.GENERATING -> getString(R.string.phase_generating)
            Phase.DONE -> getString(R.string.phase_done, getString(StageText.stop(state.stop)))
            Phase.CANCELLED -> getString(R.string.phase_cancelled)
            Phase.FAILED -> getString(R.string.phase_failed, state.error.orEmpty())
        }

    companion object {
        private const val KEY = "bundle"
        private const val THOUGHT = "thought"
        private const val STAGES = "stages"

        /** Opens the screen for the bundle [key]. */
        fun intent(context: Context, key: String): Intent = Intent(context, TryActivity::class.java).putExtra(KEY, key)
    }
}
