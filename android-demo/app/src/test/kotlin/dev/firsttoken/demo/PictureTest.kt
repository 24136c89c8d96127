package dev.firsttoken.demo

import android.app.Activity
import android.os.Looper
import android.view.View
import android.widget.EditText
import android.widget.ScrollView
import android.widget.TextView
import java.time.Duration
import org.junit.Assert.assertTrue
import org.robolectric.Shadows.shadowOf

/** A test that leaves pictures of screens with `--pictures`, and looks at what every picture must have. */
abstract class PictureTest : ScreenTest() {
    protected fun finished(screen: Activity, name: String) {
        shadowOf(Looper.getMainLooper()).idleFor(Duration.ofMillis(100)) // what has just appeared gets its place
        screen.views().forEach { it.jumpDrawablesToCurrentState() }
        screen.picture(name)
        val density = screen.resources.displayMetrics.density
        for (view in screen.views().filter { it.isClickable && it.isShown && it.width > 0 && it.isEnabled }) {
            val label = listOf(view.contentDescription, (view as? TextView)?.text, (view as? EditText)?.hint).firstOrNull { !it.isNullOrBlank() }
            val labelled = label != null || screen.views().any { it.labelFor == view.id }
            assertTrue("$name: ${view.javaClass.simpleName} ${view.id} has no label", labelled || isText(view))
            if (!isText(view)) assertTrue("$name: '$label' is ${view.height / density} dp high", view.height / density >= 47.5)
        }
        val width = screen.window.decorView.width
        for (view in screen.views().filter { it.isShown && it !is ScrollView }) {
            val place = IntArray(2).also(view::getLocationInWindow)
            assertTrue("$name: ${view.javaClass.simpleName} reaches past the screen", place[0] >= 0 && place[0] + view.width <= width)
        }
        val scroll = screen.views().filterIsInstance<ScrollView>().single()
        if (scroll.getChildAt(0).height <= scroll.height) return
        scroll.scrollTo(0, scroll.getChildAt(0).height)
        screen.picture("$name-end")
        scroll.scrollTo(0, 0)
    }

    /** Text that can be marked counts as clickable. */
    private fun isText(view: View) = view is TextView && view.isTextSelectable
}
