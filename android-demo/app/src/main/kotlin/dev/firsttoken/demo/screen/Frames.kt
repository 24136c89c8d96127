package dev.firsttoken.demo.screen

import android.os.Build
import android.view.Choreographer
import android.view.View
import android.view.ViewTreeObserver
import dev.firsttoken.demo.SinceAndroid

/** Says when the next frame of a view is on its way to the screen. */
fun interface Frames {
    /** Calls [told] once, on any thread, with `System.nanoTime()` when the next frame that draws [view] was handed over. */
    fun afterNext(view: View, told: (Long) -> Unit)

    companion object {
        fun ofThisAndroid(): Frames = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) CommittedFrames else DrawnFrames
    }
}

/** Android 10 and newer tell when a frame was committed to the compositor. */
internal object CommittedFrames : Frames {
    @SinceAndroid(29)
    override fun afterNext(view: View, told: (Long) -> Unit) {
        view.viewTreeObserver.registerFrameCommitCallback { told(System.nanoTime()) }
        view.invalidate() // the same text again would draw no frame
    }
}

/** Before that: the display's next tick after the view was drawn, by which its frame has been handed over. */
internal object DrawnFrames : Frames {
    override fun afterNext(view: View, told: (Long) -> Unit) {
        val observer = view.viewTreeObserver
        observer.addOnDrawListener(object : ViewTreeObserver.OnDrawListener {
            private var drawn = false

            override fun onDraw() {
                if (drawn) return
                drawn = true
                // a listener must not be removed while it is being called
                view.post { if (view.viewTreeObserver.isAlive) view.viewTreeObserver.removeOnDrawListener(this) }
                Choreographer.getInstance().postFrameCallback { told(System.nanoTime()) }
            }
        })
        view.invalidate()
    }
}
