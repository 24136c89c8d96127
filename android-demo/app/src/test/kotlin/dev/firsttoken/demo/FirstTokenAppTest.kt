package dev.firsttoken.demo

import android.content.pm.ApplicationInfo
import android.os.StrictMode
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Test
import org.robolectric.RuntimeEnvironment

class FirstTokenAppTest : ScreenTest() {
    private val app get() = RuntimeEnvironment.getApplication() as TestApp

    private fun begun(isDebuggable: Boolean): String {
        StrictMode.setThreadPolicy(StrictMode.ThreadPolicy.LAX)
        app.applicationInfo.flags = if (isDebuggable) app.applicationInfo.flags or ApplicationInfo.FLAG_DEBUGGABLE else app.applicationInfo.flags and ApplicationInfo.FLAG_DEBUGGABLE.inv()
        app.onCreate()
        return StrictMode.getThreadPolicy().toString()
    }

    @Test fun debugBuildsTellWhatMakesTheMainThreadWait() {
        val lax = StrictMode.ThreadPolicy.LAX.toString()
        assertEquals("a release build is not slowed down", lax, begun(isDebuggable = false))
        assertNotEquals(lax, begun(isDebuggable = true))
        StrictMode.setThreadPolicy(StrictMode.ThreadPolicy.LAX)
    }
}
