package dev.firsttoken.demo

import android.app.Application
import android.app.KeyguardManager
import android.content.Context
import dev.firsttoken.demo.engine.CarriedRuntimes
import dev.firsttoken.demo.engine.RuntimeEngines
import dev.firsttoken.demo.phone.AndroidPhone

/** The process: makes the services once, frees the loaded model when memory is short. What is finished is on disk, what runs goes on. */
open class FirstTokenApp : Application() {
    open val services: Services by lazy { makeServices() }

    protected open fun makeServices(): Services =
        Services(this, RuntimeEngines(CarriedRuntimes.all(this)), AndroidPhone(this), AppFolders(this), ::isLocked)

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        @Suppress("DEPRECATION") // told by Android 13 and before only: the phone is short while the app is in front
        if (level >= TRIM_MEMORY_BACKGROUND || level == TRIM_MEMORY_RUNNING_CRITICAL) services.answers.forgetModel()
    }

    @Suppress("OVERRIDE_DEPRECATION") // the whole phone is short of memory; older ones tell only this
    override fun onLowMemory() {
        super.onLowMemory()
        services.answers.forgetModel()
    }

    private fun isLocked() = (getSystemService(Context.KEYGUARD_SERVICE) as KeyguardManager).isKeyguardLocked
}

val Context.services: Services get() = (applicationContext as FirstTokenApp).services
