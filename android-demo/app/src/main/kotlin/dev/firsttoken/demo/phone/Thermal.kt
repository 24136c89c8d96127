package dev.firsttoken.demo.phone

import android.content.Context
import android.os.Build
import android.os.PowerManager
import dev.firsttoken.demo.R
import dev.firsttoken.demo.SinceAndroid

/** Android's thermal status, 0 (none) to 6 (shutdown), or null before Android 10. */
@SinceAndroid(29)
fun thermalStatus(context: Context): Int? =
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) (context.getSystemService(Context.POWER_SERVICE) as PowerManager).currentThermalStatus else null

/** What the status means, in words. */
fun thermalText(context: Context): String {
    val names = context.resources.getStringArray(R.array.thermal)
    return thermalStatus(context)?.let { names.getOrNull(it) } ?: context.getString(R.string.thermal_unknown)
}
