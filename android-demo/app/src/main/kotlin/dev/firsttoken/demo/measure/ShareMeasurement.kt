package dev.firsttoken.demo.measure

import android.app.Activity
import android.content.ClipData
import android.content.Intent
import dev.firsttoken.core.measure.Measurement
import dev.firsttoken.core.measure.MeasurementText
import dev.firsttoken.demo.R

/** Lets the user give [measurement] to another app, as the one file that [MeasurementProvider] has. */
fun shareMeasurement(activity: Activity, measurement: Measurement) {
    MeasurementText.write(measurement, MeasurementProvider.file(activity))
    val send = Intent(Intent.ACTION_SEND).setType("application/json").putExtra(Intent.EXTRA_STREAM, MeasurementProvider.URI).addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
    send.clipData = ClipData.newRawUri(null, MeasurementProvider.URI) // what the permission is tied to
    activity.startActivity(Intent.createChooser(send, activity.getString(R.string.share)))
}
