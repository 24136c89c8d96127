package dev.firsttoken.demo.view

import android.graphics.Rect
import android.view.View
import android.widget.Button
import dev.firsttoken.demo.R

/** A panel below one button that opens and closes it and says in short what is in it. */
class Fold(private val toggle: Button, private val panel: View, private val summary: () -> String) {
    var isOpen: Boolean
        get() = panel.visibility == View.VISIBLE
        set(value) {
            if (value && !isOpen) panel.post { panel.requestRectangleOnScreen(Rect(0, 0, panel.width, 1), true) }
            panel.visibility = if (value) View.VISIBLE else View.GONE
            refresh()
        }

    init {
        toggle.setOnClickListener { isOpen = !isOpen }
    }

    /** To be called when what the summary says has changed. */
    fun refresh() {
        val said = summary()
        toggle.text = toggle.context.getString(if (isOpen) R.string.settings_open else R.string.settings_closed, said)
        toggle.contentDescription = toggle.context.getString(if (isOpen) R.string.settings_open_label else R.string.settings_closed_label, said)
    }
}
