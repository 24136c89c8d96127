package dev.firsttoken.demo.screen

import dev.firsttoken.core.benchmark.Screen
import java.util.concurrent.atomic.AtomicReference

/** The screen in front, if there is one: a run goes on while the phone is turned, only its frame is then not timed. */
class ScreenSlot : Screen {
    private val current = AtomicReference<Screen?>()

    /** Whether one of the app's screens is on the display. */
    val isInFront: Boolean get() = current.get() != null

    fun attach(screen: Screen) = current.set(screen)

    /** Takes [screen] away, unless another has taken its place already. */
    fun detach(screen: Screen) {
        current.compareAndSet(screen, null)
    }

    override fun show(text: String): Long? = current.get()?.show(text)
}
