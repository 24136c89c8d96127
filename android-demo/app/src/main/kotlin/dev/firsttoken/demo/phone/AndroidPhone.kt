package dev.firsttoken.demo.phone

import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import dev.firsttoken.core.benchmark.Phone
import dev.firsttoken.core.benchmark.RunConditions
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Device
import java.io.File
import java.time.OffsetDateTime
import java.time.format.DateTimeFormatter

/** This phone, as far as an app may see it; what cannot be read is left out. */
class AndroidPhone(private val context: Context, private val files: SystemFiles = SystemFiles(File("/"))) : Phone {
    override fun device(): Device =
        Device(
            kind = "phone",
            model = Build.MODEL,
            manufacturer = Build.MANUFACTURER,
            soc = socModel(),
            system = "Android ${Build.VERSION.RELEASE}",
            cpu = files.cpu(),
            memoryBytes = memory().totalMem,
        )

    override fun conditions(): Conditions {
        val battery = battery()
        return Conditions(
            time = OffsetDateTime.now().format(DateTimeFormatter.ISO_OFFSET_DATE_TIME),
            thermalStatus = thermalStatus(context),
            temperatures = batteryTemperature(battery)?.let { mapOf("battery" to it) }.orEmpty(),
            batteryPercent = batteryPercent(battery),
            charging = battery?.getIntExtra(BatteryManager.EXTRA_PLUGGED, 0)?.let { it != 0 },
            governors = files.governors(),
            availableMemoryBytes = memory().availMem,
        )
    }

    override fun runConditions() = RunConditions(files.peakMemory(), batteryTemperature(battery()), thermalStatus(context))

    private fun memory() = ActivityManager.MemoryInfo().also { (context.getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager).getMemoryInfo(it) }

    /** The last state that the battery service has told everyone; nothing is registered. */
    private fun battery(): Intent? = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))

    private fun batteryTemperature(battery: Intent?): Double? =
        battery?.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, 0)?.takeIf { it != 0 }?.let { it / 10.0 }

    private fun batteryPercent(battery: Intent?): Double? {
        val scale = battery?.getIntExtra(BatteryManager.EXTRA_SCALE, 0) ?: return null
        val level = battery.getIntExtra(BatteryManager.EXTRA_LEVEL, -1)
        return if (scale > 0 && level in 0..scale) 100.0 * level / scale else null
    }
}
