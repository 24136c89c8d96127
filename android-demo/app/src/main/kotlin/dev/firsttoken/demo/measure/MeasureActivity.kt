package dev.firsttoken.demo.measure

import android.app.Activity
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.RadioButton
import android.widget.TextView
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.demo.R
import dev.firsttoken.demo.bundles.BundleEntry
import dev.firsttoken.demo.bundles.BundleLibrary
import dev.firsttoken.demo.phone.defaultThreads
import dev.firsttoken.demo.phone.thermalText
import dev.firsttoken.demo.screen.FrameScreen
import dev.firsttoken.demo.services
import dev.firsttoken.demo.view.Fold
import dev.firsttoken.demo.view.showAppBar

/** Chooses bundles and prompt lengths, measures them, and shows the results side by side. */
class MeasureActivity : Activity() {
    private lateinit var choices: LinearLayout
    private lateinit var start: Button
    private lateinit var stop: Button
    private lateinit var share: Button
    private lateinit var progress: ProgressBar
    private lateinit var phase: TextView
    private lateinit var thermal: TextView
    private lateinit var frames: FrameScreen
    private lateinit var results: ResultsView
    private lateinit var settings: Fold
    private val main = Handler(Looper.getMainLooper())
    private val watcher: (MeasureState) -> Unit = ::show
    private var chosen: Set<String>? = null // before the list is there: what was chosen before the screen was turned

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.activity_measure)
        showAppBar(getString(R.string.measure_title), hasUp = true)
        choices = findViewById(R.id.choices)
        start = findViewById(R.id.start)
        stop = findViewById(R.id.stop)
        share = findViewById(R.id.share)
        progress = findViewById(R.id.progress)
        phase = findViewById(R.id.phase)
        thermal = findViewById(R.id.thermal)
        frames = FrameScreen(findViewById(R.id.token), services.frames)
        results = ResultsView(findViewById(R.id.results))
        chosen = saved?.getStringArray(CHOSEN)?.toSet()
        if (saved == null) field(R.id.threads).setText(defaultThreads().toString())
        settings = Fold(findViewById(R.id.settings_toggle), findViewById(R.id.settings), ::summary)
        settings.isOpen = saved?.getBoolean(SETTINGS) == true
        findViewById<RadioButton>(R.id.cold).setOnCheckedChangeListener { _, _ -> settings.refresh() }
        start.setOnClickListener { if (!NoticePermission(this).ask()) begin() }
        stop.setOnClickListener { services.measures.cancel() }
        share.setOnClickListener { share() }
        services.measures.restore()
        val library = services.library
        services.reader.execute {
            val found = library.list().filter { it.problem == null }
            runOnUiThread { if (!isDestroyed) offer(found) }
        }
    }

    /** The fields have their text back by now. */
    override fun onRestoreInstanceState(state: Bundle) {
        super.onRestoreInstanceState(state)
        settings.refresh()
    }

    override fun onStart() {
        super.onStart()
        services.screen.attach(frames)
        services.measures.watch(watcher)
        MeasureNotices(this).forgetEnd()
        look()
    }

    override fun onStop() {
        super.onStop()
        main.removeCallbacksAndMessages(null)
        services.measures.unwatch(watcher)
        services.screen.detach(frames)
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putStringArray(CHOSEN, checked().toTypedArray())
        state.putBoolean(SETTINGS, settings.isOpen)
    }

    /** The benchmark begins after the question, not under it. */
    override fun onRequestPermissionsResult(request: Int, permissions: Array<out String>, results: IntArray) {
        super.onRequestPermissionsResult(request, permissions, results)
        if (request == NoticePermission.REQUEST) begin()
    }

    private fun offer(entries: List<BundleEntry>) {
        choices.removeAllViews()
        for (entry in entries) {
            choices.addView(CheckBox(this).apply {
                text = entry.manifest?.let(BundleLibrary::title) ?: entry.key
                tag = entry.key
                isChecked = chosen?.contains(entry.key) ?: true
                minHeight = resources.getDimensionPixelSize(R.dimen.touch)
            })
        }
    }

    private fun checked(): List<String> = (0 until choices.childCount).map { choices.getChildAt(it) as CheckBox }.filter { it.isChecked }.map { it.tag as String }

    private fun begin() {
        if (services.headless.isRunning) return say(getString(R.string.benchmark_first), isProblem = true)
        try {
            val isCold = findViewById<RadioButton>(R.id.cold).isChecked
            services.measures.start(MeasureOptions.parse(checked(), typed(R.id.lengths), typed(R.id.repeat), typed(R.id.decode), typed(R.id.threads), isCold))
            MeasureService.start(this)
        } catch (refusal: FirstTokenException) {
            say(refusal.message.orEmpty(), isProblem = true)
        }
    }

    private fun summary(): String {
        val state = getString(if (findViewById<RadioButton>(R.id.cold).isChecked) R.string.cold else R.string.warm)
        return getString(R.string.measure_summary, state, typed(R.id.decode), typed(R.id.threads))
    }

    private fun field(id: Int): EditText = findViewById(id)

    private fun typed(id: Int) = field(id).text.toString()

    private fun show(state: MeasureState) {
        // a screen that is off draws no frames
        if (state.isRunning) window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON) else window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        start.isEnabled = !state.isRunning
        stop.visibility = if (state.isRunning) View.VISIBLE else View.GONE
        progress.visibility = stop.visibility
        progress.isIndeterminate = state.total == 0
        progress.max = maxOf(1, state.total)
        progress.progress = state.done
        say(state.message ?: if (state.isRunning) getString(R.string.measure_phase, state.bundle, state.phase) else "", state.isProblem)
        results.show(state.results)
        share.visibility = if (state.results == null || state.isRunning) View.GONE else View.VISIBLE
    }

    private fun say(text: String, isProblem: Boolean) {
        phase.text = text
        phase.setTextColor(getColor(if (isProblem) R.color.warning else R.color.ink))
    }

    /** The thermal state, looked at every two seconds while the screen is in front. */
    private fun look() {
        thermal.text = getString(R.string.thermal_line, thermalText(this))
        main.postDelayed(::look, 2000)
    }

    private fun share() {
        shareMeasurement(this, services.measures.state.results ?: return) { say(it, isProblem = true) }
    }

    private companion object {
        const val CHOSEN = "chosen"
        const val SETTINGS = "settings"
    }
}
