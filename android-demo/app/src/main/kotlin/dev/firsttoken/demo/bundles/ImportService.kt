package dev.firsttoken.demo.bundles

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.graphics.drawable.Icon
import android.os.IBinder
import android.os.SystemClock
import android.util.Log
import dev.firsttoken.demo.R
import dev.firsttoken.demo.services
import dev.firsttoken.demo.view.Numbers

/** Keeps an import of gigabytes going when the app is left, and tells in a notification how far it is. It ends with the import. */
class ImportService : Service() {
    private val watcher: (ImportState) -> Unit = ::show
    private var told = 0L // milliseconds

    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(intent: Intent?, flags: Int, id: Int): Int {
        if (intent?.action == STOP) {
            services.imports.cancel()
            if (!services.imports.state.isRunning) stopSelf() // the button of an import that a killed process has left behind
            return START_NOT_STICKY
        }
        manager().createNotificationChannel(NotificationChannel(CHANNEL, getString(R.string.import_bundle), NotificationManager.IMPORTANCE_LOW))
        // even where the import has ended in between: Android ends an app that does not do this after asking for such a service
        startForeground(RUNNING, notice(services.imports.state))
        services.imports.watch(watcher)
        return START_NOT_STICKY
    }

    override fun onDestroy() {
        super.onDestroy()
        services.imports.unwatch(watcher)
    }

    private fun show(state: ImportState) {
        if (!state.isRunning) {
            stopForeground(STOP_FOREGROUND_REMOVE)
            stopSelf()
            return
        }
        val now = SystemClock.elapsedRealtime()
        if (now - told < PAUSE) return
        told = now
        manager().notify(RUNNING, notice(state))
    }

    private fun manager() = getSystemService(Context.NOTIFICATION_SERVICE) as NotificationManager

    private fun notice(state: ImportState): Notification {
        val open = Intent(this, BundlesActivity::class.java).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK or Intent.FLAG_ACTIVITY_SINGLE_TOP)
        val stop = PendingIntent.getService(this, 1, Intent(this, ImportService::class.java).setAction(STOP), PendingIntent.FLAG_IMMUTABLE)
        return Notification.Builder(this, CHANNEL)
            .setSmallIcon(R.drawable.notification)
            .setColor(getColor(R.color.accent))
            .setContentTitle(getString(R.string.import_bundle))
            .setContentText(getString(R.string.importing, Numbers.bytes(state.bytes)))
            .setProgress(0, 0, true) // how much there is in all, the archive does not say beforehand
            .setOngoing(true)
            .setOnlyAlertOnce(true)
            .setContentIntent(PendingIntent.getActivity(this, 1, open, PendingIntent.FLAG_IMMUTABLE))
            .addAction(Notification.Action.Builder(Icon.createWithResource(this, R.drawable.notification), getString(R.string.cancel), stop).build())
            .build()
    }

    companion object {
        const val RUNNING = 3
        private const val STOP = "dev.firsttoken.demo.STOP_IMPORT"
        private const val CHANNEL = "import"
        private const val PAUSE = 1000L // milliseconds

        /** To be called from a screen in front: Android starts no such service from behind. */
        fun start(context: Context) {
            try {
                context.startForegroundService(Intent(context, ImportService::class.java))
            } catch (behind: IllegalStateException) { // the user has left in this very moment: the import runs for as long as Android lets it
                Log.w("firsttoken", behind)
            }
        }
    }
}
