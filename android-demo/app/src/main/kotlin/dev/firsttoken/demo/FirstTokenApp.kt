package dev.firsttoken.demo

import android.app.Application
import android.app.KeyguardManager
import android.content.Context
import android.content.pm.ApplicationInfo
import android.os.StrictMode
import dev.firsttoken.demo.engine.CarriedRuntimes
import dev.firsttoken.demo.engine.RuntimeEngines
import dev.firsttoken.demo.phone.AndroidPhone

/** The process: makes the services once, frees the loaded model when memory is short. What is finished is on disk, what runs goes on. */
open class FirstTokenApp : Application() {
    open val services: Services by lazy { makeServices() }

    override fun onCreate() {
        super.onCreate()
        if (applicationInfo.flags and ApplicationInfo.FLAG_DEBUGGABLE != 0) watchStrictly()
    }

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

    /** In debug builds the log tells of what makes the main thread wait, and of what is never closed. */
    private fun watchStrictly() {
        StrictMode.setThreadPolicy(StrictMode.ThreadPolicy.Builder().detectAll().penaltyLog().build())
        StrictMode.setVmPolicy(StrictMode.VmPolicy.Builder().detectActivityLeaks().detectLeakedClosableObjects().detectFileUriExposure().penaltyLog().build())
    }

    private fun isLocked() = (getSystemService(Context.KEYGUARD_SERVICE) as KeyguardManager).isKeyguardLocked
}

val Context.services: Services get() = (applicationContext as FirstTokenApp).services
