package dev.firsttoken.demo.measure

import android.Manifest
import android.app.Notification
import android.app.NotificationManager
import android.content.Context
import android.content.Intent
import android.content.pm.PackageManager
import android.view.WindowManager
import android.widget.CheckBox
import android.widget.EditText
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.android.controller.ServiceController
import org.robolectric.shadows.ShadowPowerManager

/** A benchmark whose screen is left. Robolectric only notes that a service is asked for; it is started here as Android would. */
class MeasureServiceTest : ScreenTest() {
    private val app get() = RuntimeEnvironment.getApplication()
    private val notices get() = shadowOf(app.getSystemService(Context.NOTIFICATION_SERVICE) as NotificationManager)
    private var service: ServiceController<MeasureService>? = null
    private val state get() = services.measures.state

    @Before fun stage() {
        TestWorld.stage()
        TestWorld.secondsPerToken = 0.01
    }

    @After fun destroy() {
        services.measures.cancel()
        waitFor("the end") { !state.isRunning }
        service?.destroy()
    }

    private fun begun(repeat: Int): ActivityController<MeasureActivity> {
        val controller = open<MeasureActivity>()
        val screen = controller.get()
        waitFor("the bundles") { screen.views().any { it is CheckBox } }
        for ((id, text) in listOf(R.id.lengths to "32", R.id.repeat to "$repeat", R.id.decode to "1")) screen.findViewById<EditText>(id).setText(text)
        screen.click(R.id.start)
        return controller
    }

    /** Starts the service that was asked for. */
    private fun serve(): MeasureService {
        val asked = shadowOf(app).nextStartedService
        assertEquals(MeasureService::class.java.name, asked.component!!.className)
        val controller = Robolectric.buildService(MeasureService::class.java, asked).also { service = it }
        return controller.create().startCommand(0, 1).get()
    }

    private fun Notification.says(key: String) = extras.getCharSequence(key).toString()

    @Test fun itGoesOnWhenItsScreenIsLeftAndTheNotificationStopsIt() {
        val screen = begun(repeat = 300)
        val service = serve()
        val first = shadowOf(service).lastForegroundNotification
        assertTrue("ongoing", first.flags and Notification.FLAG_ONGOING_EVENT != 0)
        assertTrue("the phone stays awake", ShadowPowerManager.getLatestWakeLock().isHeld)
        waitFor("a few runs") { state.done >= 2 }
        screen.pause().stop()
        val left = state.done
        waitFor("more runs, and a notification of them") { state.done > left + 1 && "of 300" in notices.getNotification(MeasureNotices.RUNNING).says(Notification.EXTRA_TEXT) }
        val now = notices.getNotification(MeasureNotices.RUNNING)
        assertEquals("demo · fp16-attention · tflite-xnnpack", now.says(Notification.EXTRA_TITLE))
        assertEquals(300, now.extras.getInt(Notification.EXTRA_PROGRESS_MAX))
        assertTrue(now.extras.getInt(Notification.EXTRA_PROGRESS) > 0)
        assertEquals(MeasureActivity::class.java.name, shadowOf(now.contentIntent).savedIntent.component!!.className)
        val stop = now.actions.single()
        assertEquals("Stop", stop.title)
        val sent = shadowOf(stop.actionIntent).savedIntent
        service.onStartCommand(sent, 0, 2)
        waitFor("the end") { !state.isRunning }
        assertTrue(shadowOf(service).isStoppedBySelf && shadowOf(service).isForegroundStopped)
        this.service!!.destroy()
        assertFalse("the phone may sleep again", ShadowPowerManager.getLatestWakeLock().isHeld)
        assertEquals("Stopped; the finished runs are kept.", notices.getNotification(MeasureNotices.ENDED).says(Notification.EXTRA_TEXT))
        val kept = state.results!!.results.single().runs
        assertTrue("finished runs are kept", kept.count { it.state == "warm" } >= left + 1)
        assertTrue("runs that nobody saw had no frame", kept.any { it.stages.render == null })
        screen.start().resume()
        assertNull("what is on the screen needs no notification", notices.getNotification(MeasureNotices.ENDED))
        assertTrue(screen.get().says(), "had no frame, since the app was not in front" in screen.get().says())
    }

    @Test fun inFrontItTellsNothingTwice() {
        val screen = begun(repeat = 20)
        val service = serve()
        assertTrue(screen.get().window.attributes.flags and WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON != 0)
        waitFor("a few runs") { state.done >= 5 }
        assertFalse("what is on the screen is in no notification", "of 20" in shadowOf(service).lastForegroundNotification.says(Notification.EXTRA_TEXT))
        waitFor("the end") { !state.isRunning }
        assertTrue(shadowOf(service).isStoppedBySelf)
        assertNull(notices.getNotification(MeasureNotices.ENDED))
        assertEquals("the screen may go off again", 0, screen.get().window.attributes.flags and WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    @Test fun anOldNotificationsButtonStopsTheServiceAtOnce() {
        val controller = Robolectric.buildService(MeasureService::class.java, MeasureService.stopIntent(app)).create().startCommand(0, 1)
        assertTrue(shadowOf(controller.get()).isStoppedBySelf)
        controller.destroy()
        assertFalse(ShadowPowerManager.getLatestWakeLock().isHeld)
    }

    @Test fun theNotificationIsAskedForOnceAndNotNeeded() {
        shadowOf(app).denyPermissions(Manifest.permission.POST_NOTIFICATIONS)
        val screen = begun(repeat = 1).get()
        assertEquals(listOf(Manifest.permission.POST_NOTIFICATIONS), shadowOf(screen).lastRequestedPermission.requestedPermissions.toList())
        assertFalse("not under the question", state.isRunning)
        screen.onRequestPermissionsResult(NoticePermission.REQUEST, arrayOf(Manifest.permission.POST_NOTIFICATIONS), intArrayOf(PackageManager.PERMISSION_DENIED))
        assertTrue(state.isRunning)
        waitFor("the end") { !state.isRunning && state.results != null }
        assertFalse("asked once", NoticePermission(screen).ask())
    }

    @Test fun nothingStartsWhereNothingCanBeMeasured() {
        val screen = open<MeasureActivity>().get()
        screen.findViewById<EditText>(R.id.lengths).setText("none")
        screen.click(R.id.start)
        assertNull(shadowOf(app).nextStartedService)
    }

    @Test fun theServiceIsTheAppsOwnAndOfTheSpecialType() {
        val info = app.packageManager.getServiceInfo(android.content.ComponentName(app, MeasureService::class.java), 0)
        assertFalse(info.exported)
        assertEquals(android.content.pm.ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE, info.foregroundServiceType)
        assertNull(MeasureService().onBind(Intent()))
    }
}
