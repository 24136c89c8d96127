package dev.firsttoken.demo.measure

import android.content.Context
import android.content.Intent
import android.os.Process
import dev.firsttoken.demo.BenchmarkActivity
import dev.firsttoken.demo.services

/** One cold run in a process of its own, which ends with it: the next one starts from nothing. */
class ColdActivity : BenchmarkActivity() {
    override fun start(id: String): Started = services.ownHeadless.start(id)

    override fun cancel() = services.ownHeadless.cancel()

    override fun onEnd() {
        finish()
        window.decorView.postDelayed({ Process.killProcess(Process.myPid()) }, PAUSE)
    }

    companion object {
        private const val PAUSE = 300L // milliseconds, for the screen before to come back

        fun intent(context: Context, id: String): Intent =
            Intent(context, ColdActivity::class.java).putExtra("id", id).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK or Intent.FLAG_ACTIVITY_NO_ANIMATION)
    }
}
