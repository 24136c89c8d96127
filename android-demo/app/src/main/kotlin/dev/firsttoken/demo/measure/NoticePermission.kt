package dev.firsttoken.demo.measure

import android.Manifest
import android.app.Activity
import android.content.Context
import android.content.pm.PackageManager
import android.os.Build

/** The permission for notifications, which Android 13 and newer want to be asked for. Asked once; a benchmark runs without it too. */
class NoticePermission(private val activity: Activity) {
    private val preferences = activity.getSharedPreferences("measure", Context.MODE_PRIVATE)

    /** Asks where that makes sense and returns whether it did; the answer comes to `onRequestPermissionsResult`. */
    fun ask(): Boolean {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU || preferences.getBoolean(ASKED, false)) return false
        if (activity.checkSelfPermission(Manifest.permission.POST_NOTIFICATIONS) == PackageManager.PERMISSION_GRANTED) return false
        preferences.edit().putBoolean(ASKED, true).apply()
        activity.requestPermissions(arrayOf(Manifest.permission.POST_NOTIFICATIONS), REQUEST)
        return true
    }

    companion object {
        const val REQUEST = 1
        private const val ASKED = "askedForNotifications"
    }
}
