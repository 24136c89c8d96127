package dev.firsttoken.demo

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView
import dev.firsttoken.core.benchmark.ProgressEvent
import dev.firsttoken.core.benchmark.ProgressReader
import dev.firsttoken.demo.measure.ProgressText
import dev.firsttoken.demo.measure.Started
import dev.firsttoken.demo.screen.FrameScreen
import dev.firsttoken.demo.view.showAppBar

/** The benchmark that `firsttoken device profile` starts by intent (PROTOCOL.md). Without an id it only keeps the screen on. */
open class BenchmarkActivity : Activity() {
    private lateinit var status: TextView
    private lateinit var detail: TextView
    private lateinit var busy: ProgressBar
    private lateinit var stop: Button
    private lateinit var frames: FrameScreen
    private val main = Handler(Looper.getMainLooper())
    private var reader: ProgressReader? = null
    private var round = 0 // of following: one ends when the screen is left

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        setContentView(R.layout.activity_benchmark)
        showAppBar(getString(R.string.benchmark_title), hasUp = false)
        status = findViewById(R.id.status)
        detail = findViewById(R.id.detail)
        busy = findViewById(R.id.busy)
        stop = findViewById(R.id.stop)
        stop.setOnClickListener { cancel() }
        frames = FrameScreen(findViewById(R.id.token), services.frames)
        services.screen.attach(frames)
        take(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        setIntent(intent)
        take(intent)
    }

    override fun onResume() {
        super.onResume()
        services.screen.attach(frames)
        follow()
    }

    override fun onPause() {
        super.onPause()
        round++
    }

    override fun onDestroy() {
        super.onDestroy()
        services.screen.detach(frames)
    }

    /** Starts request [id]; the activity for cold runs of the app's own takes other folders. */
    protected open fun start(id: String): Started = services.headless.start(id)

    protected open fun cancel() = services.headless.cancel()

    /** The request has ended. */
    protected open fun onEnd() = Unit

    private fun take(intent: Intent) {
        val id = requestId(intent)
        if (id == null) {
            if (reader == null) tell(getString(R.string.benchmark_waiting), isBusy = false)
            return
        }
        when (val started = start(id)) {
            is Started.Refused -> {
                tell(getString(R.string.benchmark_refused, started.message), isBusy = false)
                onEnd()
            }
            is Started.Running -> {
                reader = ProgressReader(started.progress)
                tell(getString(R.string.phase_loading), isBusy = true)
                round++
                follow()
            }
        }
    }

    /** The id of the request, null where none was given. Extras come from any app: what is no text is an id that is refused. */
    private fun requestId(intent: Intent): String? =
        try {
            if (intent.hasExtra("id")) intent.getStringExtra("id") ?: "(no text)" else null
        } catch (hostile: RuntimeException) { // an extra of a class that is not in this app, or that does not unpack
            "(unreadable)"
        }

    /** Reads on from the progress file, off the main thread, until it has ended or the screen is left. */
    private fun follow() {
        val followed = reader ?: return
        val mine = round
        services.reader.execute {
            val events = followed.next()
            main.post {
                if (reader === followed) events.forEach(::show)
                if (events.lastOrNull()?.isFinal == true) onEnd() else if (reader === followed && mine == round) main.postDelayed(::follow, PAUSE)
            }
        }
    }

    private fun show(event: ProgressEvent) {
        if (event.isFinal || event.event == "phase") tell(ProgressText.of(this, event), isBusy = !event.isFinal) else detail.text = ProgressText.of(this, event)
    }

    private fun tell(text: CharSequence, isBusy: Boolean) {
        status.text = text
        busy.visibility = if (isBusy) View.VISIBLE else View.GONE
        stop.visibility = busy.visibility
    }

    private companion object {
        const val PAUSE = 200L // milliseconds between two looks at the progress file
    }
}
