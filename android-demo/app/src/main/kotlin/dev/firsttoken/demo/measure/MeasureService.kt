package dev.firsttoken.demo.measure

import android.app.Service
import android.content.Context
import android.content.Intent
import android.os.IBinder
import android.os.PowerManager
import android.util.Log
import dev.firsttoken.demo.services

/**
 * Keeps a benchmark that was started in the app going when its screen is left: the process is not frozen or killed for being in the
 * background, the phone does not fall asleep, and a notification tells how far it is and can stop it. It ends with the benchmark.
 */
class MeasureService : Service() {
    private lateinit var notices: MeasureNotices
    private lateinit var awake: PowerManager.WakeLock
    private val watcher: (MeasureState) -> Unit = ::show

    override fun onBind(intent: Intent?): IBinder? = null

    override fun onCreate() {
        super.onCreate()
        notices = MeasureNotices(this)
        awake = (getSystemService(Context.POWER_SERVICE) as PowerManager).newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "firsttoken:benchmark")
    }

    override fun onStartCommand(intent: Intent?, flags: Int, id: Int): Int {
        if (intent?.action == STOP) {
            services.measures.cancel()
            if (!awake.isHeld) stopSelf() // the button of a benchmark that a killed process has left behind
            return START_NOT_STICKY
        }
        // even where the benchmark has ended in between: Android ends an app that does not do this after asking for such a service
        startForeground(MeasureNotices.RUNNING, notices.running(services.measures.state))
        if (!awake.isHeld) awake.acquire(LONGEST)
        services.measures.watch(watcher)
        return START_NOT_STICKY
    }

    override fun onDestroy() {
        super.onDestroy()
        services.measures.unwatch(watcher)
        if (awake.isHeld) awake.release()
    }

    private fun show(state: MeasureState) {
        val isSeen = services.screen.isInFront
        if (state.isRunning) {
            if (!isSeen) notices.update(state) // what is on the screen already would only cost the phone work
            return
        }
        stopForeground(STOP_FOREGROUND_REMOVE)
        if (!isSeen && state.message != null) notices.ended(state.message)
        stopSelf()
    }

    companion object {
        private const val STOP = "dev.firsttoken.demo.STOP"
        private const val LONGEST = 24L * 60 * 60 * 1000 // milliseconds; a benchmark that hangs must not keep the phone awake for ever

        /** To be called from a screen in front: Android starts no such service from behind. */
        fun start(context: Context) {
            try {
                context.startForegroundService(Intent(context, MeasureService::class.java))
            } catch (behind: IllegalStateException) { // the user has left in this very moment: the benchmark runs for as long as Android lets it
                Log.w("firsttoken", behind)
            }
        }

        /** What the notification's button sends. */
        fun stopIntent(context: Context): Intent = Intent(context, MeasureService::class.java).setAction(STOP)
    }
}
