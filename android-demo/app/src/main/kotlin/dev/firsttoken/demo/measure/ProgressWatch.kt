package dev.firsttoken.demo.measure

import android.content.Context
import dev.firsttoken.core.benchmark.ProgressEvent
import dev.firsttoken.core.benchmark.ProgressReader
import java.util.Timer
import kotlin.concurrent.schedule

/** Looks at a progress file a few times a second, on a thread of its own, and tells what it says. */
class ProgressWatch(
    private val reader: ProgressReader,
    private val context: Context,
    private val post: ((MeasureState) -> MeasureState) -> Unit,
) {
    private val timer = Timer("progress", true)

    fun start() = timer.schedule(0L, PAUSE) { reader.next().forEach(::tell) }

    fun stop() = timer.cancel()

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
