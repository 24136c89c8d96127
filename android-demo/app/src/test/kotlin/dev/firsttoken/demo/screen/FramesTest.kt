package dev.firsttoken.demo.screen

import android.os.Looper
import android.view.View
import android.view.ViewTreeObserver
import android.widget.TextView
import dev.firsttoken.demo.BenchmarkActivity
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import java.time.Duration
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.util.ReflectionHelpers

/** Robolectric hands no frames to a screen, so what the system calls when it does is called here. */
class FramesTest : ScreenTest() {
    private val view: TextView get() = open<BenchmarkActivity>().get().findViewById(R.id.token)
    private val told = ArrayList<Long>()

    private fun idle() = shadowOf(Looper.getMainLooper()).idleFor(Duration.ofMillis(100))

    @Test fun aCommittedFrameIsToldOnce() {
        val view = view
        CommittedFrames.afterNext(view, told::add)
        assertEquals("not before the frame", 0, told.size)
        @Suppress("UNCHECKED_CAST")
        val callbacks = ViewTreeObserver::class.java.getDeclaredMethod("captureFrameCommitCallbacks").apply { isAccessible = true }.invoke(view.viewTreeObserver) as List<Runnable>
        callbacks.forEach(Runnable::run)
        assertEquals(1, told.size)
        assertTrue(System.nanoTime() - told.single() in 0..5_000_000_000)
    }

    @Test fun beforeAndroid10TheTickAfterTheDrawingIsTold() {
        val view = view
        idle()
        DrawnFrames.afterNext(view, told::add)
        assertEquals("not before it is drawn", 0, told.size)
        repeat(2) { view.viewTreeObserver.dispatchOnDraw() }
        idle()
        assertEquals("once, and no more", 1, told.size)
        view.viewTreeObserver.dispatchOnDraw()
        idle()
        assertEquals(1, told.size)
    }

    @Test fun android10AndNewerTellOfTheCommitAndOlderOnesOfTheTick() {
        val now = android.os.Build.VERSION.SDK_INT
        try {
            for ((level, frames) in mapOf(26 to DrawnFrames, 28 to DrawnFrames, 29 to CommittedFrames, 35 to CommittedFrames)) {
                ReflectionHelpers.setStaticField(android.os.Build.VERSION::class.java, "SDK_INT", level)
                assertEquals("API $level", frames, Frames.ofThisAndroid())
            }
        } finally {
            ReflectionHelpers.setStaticField(android.os.Build.VERSION::class.java, "SDK_INT", now)
        }
    }

    @Test fun theTextIsThereWhenItsFrameIsAskedFor() {
        val view = view
        var seen = ""
        val screen = FrameScreen(view) { shown: View, told -> seen = (shown as TextView).text.toString(); told(42) }
        val worker = Executors.newSingleThreadExecutor()
        val shown = worker.submit<String> { screen.show("first").toString() }
        while (!shown.isDone) idle()
        assertEquals("42", shown.get(5, TimeUnit.SECONDS))
        assertEquals("first", seen)
        worker.shutdown()
    }

    @Test fun whereNoScreenIsInFrontNothingIsTimed() {
        val slot = ScreenSlot()
        assertNull(slot.show("x"))
        val (first, second) = listOf(dev.firsttoken.core.benchmark.Screen { 1 }, dev.firsttoken.core.benchmark.Screen { 2 })
        slot.attach(first)
        slot.attach(second)
        slot.detach(first) // the old screen goes after the new one has come
        assertEquals(2L, slot.show("x"))
        slot.detach(second)
        assertNull(slot.show("x"))
    }
}
