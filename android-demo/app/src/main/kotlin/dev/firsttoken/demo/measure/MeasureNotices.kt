package dev.firsttoken.demo.measure

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.content.Context
import android.content.Intent
import android.graphics.drawable.Icon
import android.os.SystemClock
import dev.firsttoken.demo.R

/** The notifications of a benchmark: how far it is, and that it has ended. Silent both. */
class MeasureNotices(private val context: Context) {
    private val manager = context.getSystemService(Context.NOTIFICATION_SERVICE) as NotificationManager
    private var told = 0L // milliseconds

    init {
        manager.createNotificationChannel(NotificationChannel(CHANNEL, context.getString(R.string.measure_title), NotificationManager.IMPORTANCE_LOW))
    }

    fun running(state: MeasureState): Notification {
        val stop = PendingIntent.getService(context, 0, MeasureService.stopIntent(context), PendingIntent.FLAG_IMMUTABLE)
        val icon = Icon.createWithResource(context, R.drawable.notification)
        return base(if (state.bundle.isEmpty()) context.getString(R.string.phase_running) else state.bundle, state.phase)
            .setOngoing(true)
            .setProgress(maxOf(1, state.total), state.done, state.total == 0)
            .addAction(Notification.Action.Builder(icon, context.getString(R.string.cancel), stop).build())
            .build()
    }

    /** Shows [state], at most once a second: drawing it takes time from what is measured. */
    fun update(state: MeasureState) {
        val now = SystemClock.elapsedRealtime()
        if (now - told < PAUSE) return
        told = now
        manager.notify(RUNNING, running(state))
    }

    fun ended(message: String) = manager.notify(ENDED, base(context.getString(R.string.measure_title), message).setAutoCancel(true).build())

    /** Its results are on the screen now. */
    fun forgetEnd() = manager.cancel(ENDED)

    private fun base(title: String, text: String): Notification.Builder {
        val open = Intent(context, MeasureActivity::class.java).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK or Intent.FLAG_ACTIVITY_SINGLE_TOP)
        return Notification.Builder(context, CHANNEL)
            .setSmallIcon(R.drawable.notification)
            .setColor(context.getColor(R.color.accent))
            .setContentTitle(title)
            .setContentText(text)
            .setStyle(Notification.BigTextStyle().bigText(text))
            .setOnlyAlertOnce(true)
            .setContentIntent(PendingIntent.getActivity(context, 0, open, PendingIntent.FLAG_IMMUTABLE))
    }

    companion object {
        const val RUNNING = 1
        const val ENDED = 2
        private const val CHANNEL = "benchmark"
        private const val PAUSE = 1000L // milliseconds
    }
}
