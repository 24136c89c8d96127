package dev.firsttoken.demo.measure

import android.content.Context
import android.os.Process
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.core.benchmark.ProgressReader
import java.io.File

/**
 * Has one request carried out by [ColdActivity]'s process and waits for its end. Worker thread.
 *
 * Android shows an activity only when the app is in front, so it waits for that; [waits] is told. The process is gone afterwards,
 * by force if need be: a run in one that has run before would not be cold.
 */
class ColdRun(private val context: Context, private val cancelled: () -> Boolean, private val isInFront: () -> Boolean, private val waits: () -> Unit) {
    /** Raises [FirstTokenException] where the process does not start, or is gone before its end. */
    fun carryOut(id: String, places: BenchmarkFolders) {
        if (!waitForFront()) return
        val reader = ProgressReader(places.progress(id))
        context.startActivity(ColdActivity.intent(context, id))
        var pid: Int? = null
        var waited = 0L
        while (!cancelled()) {
            val events = reader.next()
            events.lastOrNull { it.pid != null }?.let { pid = it.pid }
            if (events.any { it.isFinal }) break
            if (pid == null && waited > LONGEST_START) throw FirstTokenException("the process for the cold run did not start; bring the app to the front and try again")
            if (pid?.let(::isGone) == true && reader.next().none { it.isFinal }) throw FirstTokenException("the cold run ended early, probably for lack of memory; measure a smaller bundle")
            Thread.sleep(PAUSE)
            waited += PAUSE
        }
        (pid ?: reader.next().firstNotNullOfOrNull { it.pid })?.let(::end)
    }

    private fun waitForFront(): Boolean {
        if (!isInFront()) waits()
        while (!isInFront() && !cancelled()) Thread.sleep(PAUSE)
        return !cancelled()
    }

    /** Waits for the process to end by itself, which closes its screen properly; then ends it. */
    private fun end(pid: Int) {
        var waited = 0L
        while (!isGone(pid)) {
            if (waited == LONGEST_END || cancelled()) Process.killProcess(pid)
            if (waited > LONGEST_START) throw FirstTokenException("the process of the last cold run does not end; close the app, then measure again")
            Thread.sleep(PAUSE)
            waited += PAUSE
        }
    }

    private fun isGone(pid: Int) = !File("/proc/$pid").exists()

    private companion object {
        const val PAUSE = 100L // milliseconds
        const val LONGEST_START = 20_000L
        const val LONGEST_END = 2_000L
    }
}
