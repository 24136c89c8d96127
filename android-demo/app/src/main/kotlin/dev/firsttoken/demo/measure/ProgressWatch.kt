package dev.firsttoken.demo.measure

import android.content.Context
import android.os.Handler
import dev.firsttoken.core.benchmark.ProgressEvent
import dev.firsttoken.core.benchmark.ProgressReader

/** Looks at a progress file a few times a second and tells what it says. */
class ProgressWatch(
    private val reader: ProgressReader,
    private val context: Context,
    private val main: Handler,
    private val post: ((MeasureState) -> MeasureState) -> Unit,
) {
    private val look = object : Runnable {
        override fun run() {
            reader.next().forEach(::tell)
            main.postDelayed(this, PAUSE)
        }
    }

    fun start() {
        main.post(look)
    }

    fun stop() = main.removeCallbacks(look)

    private fun tell(event: ProgressEvent) = post { state ->
        state.copy(
            phase = if (event.event == "phase" || event.event == "run") ProgressText.of(context, event) else state.phase,
            done = event.done ?: state.done,
            total = event.total ?: state.total,
        )
    }

    private companion object {
        const val PAUSE = 250L // milliseconds
    }
}
