package dev.firsttoken.demo

import android.app.Application
import android.app.KeyguardManager
import android.content.Context
import dev.firsttoken.demo.engine.CarriedRuntimes
import dev.firsttoken.demo.engine.RuntimeEngines
import dev.firsttoken.demo.phone.AndroidPhone

/** The process: makes the services once, frees the loaded model when memory is short. */
open class FirstTokenApp : Application() {
    val services: Services by lazy { makeServices() }

    protected open fun makeServices(): Services =
        Services(this, RuntimeEngines(CarriedRuntimes.all(resources)), AndroidPhone(this), AppFolders(this), ::isLocked)

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level >= TRIM_MEMORY_BACKGROUND) services.answers.forgetModel()
    }

    private fun isLocked() = (getSystemService(Context.KEYGUARD_SERVICE) as KeyguardManager).isKeyguardLocked
}

val Context.services: Services get() = (applicationContext as FirstTokenApp).services
