package dev.firsttoken.demo.answer

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.inputmethod.InputMethodManager
import android.widget.Button
import android.widget.EditText
import android.widget.ProgressBar
import android.widget.TextView
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.demo.R
import dev.firsttoken.demo.screen.FrameScreen
import dev.firsttoken.demo.services
import dev.firsttoken.demo.view.StageBarView
import dev.firsttoken.demo.view.StageText
import dev.firsttoken.demo.view.artifactText
import java.io.File

/** A prompt and its streamed answer, with the first-token time as a bar of stages. */
class TryActivity : Activity() {
    private lateinit var prompt: EditText
    private lateinit var answer: TextView
    private lateinit var send: Button
    private lateinit var cancel: Button
    private lateinit var phase: TextView
    private lateinit var busy: ProgressBar
    private lateinit var bar: StageBarView
    private lateinit var figures: TextView
    private lateinit var frames: FrameScreen
    private lateinit var settings: SettingsPanel
    private lateinit var folder: File

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
        answer = findViewById(R.id.answer)
        send = findViewById(R.id.send)
        cancel = findViewById(R.id.cancel)
        phase = findViewById(R.id.phase)
        busy = findViewById(R.id.busy)
        bar = findViewById(R.id.bar)
        figures = findViewById(R.id.figures)
        frames = FrameScreen(answer, services.frames)
        findViewById<TextView>(R.id.title).text = services.library.title(folder)
        send.setOnClickListener { ask() }
        cancel.setOnClickListener { services.answers.cancel() }
        settings = SettingsPanel(this, saved)
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
            if (services.isMeasuring) say(getString(R.string.benchmark_first), isProblem = true) else services.answers.start(folder, text, set)
        } catch (refusal: FirstTokenException) {
            say(refusal.message.orEmpty(), isProblem = true)
        }
    }

    private fun show(newest: AnswerState) {
        send.isEnabled = !newest.isRunning
        cancel.visibility = if (newest.isRunning) View.VISIBLE else View.GONE
        busy.visibility = cancel.visibility
        // an answer of another bundle is not this one's
        val state = if (newest.bundle == folder.name) newest else AnswerState(phase = if (newest.isRunning) Phase.LOADING else Phase.IDLE)
        say(phaseText(state), state.phase == Phase.FAILED)
        if (answer.text.toString() != state.text) answer.text = state.text
        val stages = state.stages
        bar.visibility = if (stages == null) View.GONE else View.VISIBLE
        figures.visibility = bar.visibility
        if (stages != null) {
            bar.show(StageText.milliseconds(stages.byName))
            figures.text = StageText.figures(this, stages, state.promptTokens, state.newTokens, state.tokensPerSecond)
            artifactText(this, state.artifact)?.let { figures.append("\n$it") }
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

        /** Opens the screen for the bundle [key]. */
        fun intent(context: Context, key: String): Intent = Intent(context, TryActivity::class.java).putExtra(KEY, key)
    }
}
