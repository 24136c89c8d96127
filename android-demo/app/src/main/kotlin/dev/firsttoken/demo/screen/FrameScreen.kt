package dev.firsttoken.demo.screen

import android.graphics.Rect
import android.widget.TextView
import dev.firsttoken.core.benchmark.Screen
import java.util.concurrent.ArrayBlockingQueue
import java.util.concurrent.TimeUnit

/** Shows a first token in [view] and waits for the frame that shows it. Called off the main thread. */
class FrameScreen(private val view: TextView, private val frames: Frames) : Screen {
    override fun show(text: String): Long? {
        val committed = ArrayBlockingQueue<Long>(1)
        view.post {
            view.text = text
            view.requestRectangleOnScreen(Rect(0, 0, view.width, view.height), true) // what is scrolled away is not on the screen
            frames.afterNext(view) { committed.offer(it) }
        }
        return committed.poll(LONGEST_WAIT, TimeUnit.MILLISECONDS)
    }

    private companion object {
        const val LONGEST_WAIT = 2000L // milliseconds; a screen that is off draws no frames
    }
}
