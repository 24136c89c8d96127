package dev.firsttoken.demo.measure

import android.app.Activity
import android.content.ClipData
import android.content.Intent
import dev.firsttoken.core.measure.Measurement
import dev.firsttoken.core.measure.MeasurementText
import dev.firsttoken.demo.R
import dev.firsttoken.demo.services
import java.io.IOException

/** Lets the user give [measurement] to another app, as the one file that [MeasurementProvider] has. [failed] is told where that cannot be written. */
fun shareMeasurement(activity: Activity, measurement: Measurement, failed: (String) -> Unit) {
    activity.services.reader.execute {
        val problem = try {
            MeasurementText.write(measurement, MeasurementProvider.file(activity))
            null
        } catch (error: IOException) {
            activity.getString(R.string.share_failed, error.message.orEmpty())
        }
        activity.runOnUiThread { if (!activity.isDestroyed) if (problem == null) send(activity) else failed(problem) }
    }
}

private fun send(activity: Activity) {
    val send = Intent(Intent.ACTION_SEND).setType("application/json").putExtra(Intent.EXTRA_STREAM, MeasurementProvider.URI).addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
    send.clipData = ClipData.newRawUri(null, MeasurementProvider.URI) // what the permission is tied to
    activity.startActivity(Intent.createChooser(send, activity.getString(R.string.share)))
}
