package dev.firsttoken.demo.measure

import android.content.Context
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.core.benchmark.ProgressReader
import java.io.File

/** Has one request carried out by [ColdActivity]'s process and waits for its end. Worker thread. */
class ColdRun(private val context: Context, private val cancelled: () -> Boolean) {
    /** Raises [FirstTokenException] where the process does not start, or is gone before its end. */
    fun carryOut(id: String, places: BenchmarkFolders) {
        val reader = ProgressReader(places.progress(id))
        context.startActivity(ColdActivity.intent(context, id))
        var pid: Int? = null
        var waited = 0L
        while (!cancelled()) {
            val events = reader.next()
            events.lastOrNull { it.pid != null }?.let { pid = it.pid }
            if (events.any { it.isFinal }) return waitForEnd(pid)
            if (pid == null && waited > LONGEST_START) throw FirstTokenException("the process for the cold run did not start; bring the app to the front and try again")
            if (pid?.let(::isGone) == true && reader.next().none { it.isFinal }) throw FirstTokenException("the cold run ended early, probably for lack of memory; measure a smaller bundle")
            Thread.sleep(PAUSE)
            waited += PAUSE
        }
    }

    /** The next cold run needs a new process, so this one must be gone first. */
    private fun waitForEnd(pid: Int?) {
        var waited = 0L
        while (pid != null && !isGone(pid) && waited < LONGEST_START) {
            Thread.sleep(PAUSE)
            waited += PAUSE
        }
    }

    private fun isGone(pid: Int) = !File("/proc/$pid").exists()

    private companion object {
        const val PAUSE = 100L // milliseconds
        const val LONGEST_START = 20_000L
    }
}
