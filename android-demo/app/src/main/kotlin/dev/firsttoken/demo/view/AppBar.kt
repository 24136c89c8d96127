package dev.firsttoken.demo.view

import android.app.Activity
import android.widget.Toolbar
import dev.firsttoken.demo.R

/** Puts [title] into the bar at the top of the screen, with the way up to the screen that the app's manifest names as its parent. */
fun Activity.showAppBar(title: CharSequence, hasUp: Boolean) {
    setActionBar(findViewById<Toolbar>(R.id.app_bar))
    actionBar?.title = title
    actionBar?.setDisplayHomeAsUpEnabled(hasUp)
}
