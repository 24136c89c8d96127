package dev.firsttoken.demo.phone

import android.os.Build
import dev.firsttoken.demo.SinceAndroid

/**
 * The phone's SoC as it names itself ("SM8650"), or null where it does not.
 *
 * Android tells apps since version 12. No Snapdragon that bundles are compiled for came with an older one, so nothing is guessed there.
 */
@SinceAndroid(31)
fun socModel(): String? = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL.takeUnless { it == Build.UNKNOWN } else null
