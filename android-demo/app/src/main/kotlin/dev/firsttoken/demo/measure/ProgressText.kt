package dev.firsttoken.demo.measure

import android.content.Context
import dev.firsttoken.core.benchmark.ProgressEvent
import dev.firsttoken.demo.R
import dev.firsttoken.demo.view.Numbers

/** Progress lines in words. */
object ProgressText {
    fun of(context: Context, event: ProgressEvent): String =
        when (event.event) {
            "started" -> context.getString(R.string.progress_started, event.total ?: 0)
            "phase" -> phase(context, event.phase)
            "run" -> context.getString(
                R.string.progress_run, event.done ?: 0, event.total ?: 0, event.promptTokens ?: 0, event.state.orEmpty(), Numbers.milliseconds((event.firstToken ?: 0).toDouble()),
            )
            "failed" -> context.getString(R.string.progress_failed, event.stage.orEmpty(), event.message.orEmpty())
            "refused" -> context.getString(R.string.benchmark_refused, event.message.orEmpty())
            "done" -> context.getString(R.string.benchmark_done)
            else -> ""
        }

    private fun phase(context: Context, phase: String?): String =
        when (phase) {
            "loading" -> context.getString(R.string.phase_loading)
            "warm-up" -> context.getString(R.string.phase_warm_up)
            "running" -> context.getString(R.string.phase_running)
            else -> phase.orEmpty()
        }
}
