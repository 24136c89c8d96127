package dev.firsttoken.demo

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import java.io.File
import org.junit.After
import org.junit.Before
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.android.controller.ActivityController
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** A test of a screen on one Android, with the phone of [TestWorld]. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], application = TestApp::class, qualifiers = "w411dp-h891dp-420dpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
abstract class ScreenTest {
    private val controllers = ArrayList<ActivityController<*>>()

    @Before fun beginWorld() {
        TestWorld.begin()
        shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(android.Manifest.permission.POST_NOTIFICATIONS)
    }

    /** The services of a process that starts after this one was killed: nothing but what is on disk is left. */
    fun nextProcess(): Services {
        val app = RuntimeEnvironment.getApplication()
        return Services(app, TestWorld.engines, TestWorld.phone, AppFolders(app, TestWorld.staging) { arrayOf(TestWorld.media) }, { false })
    }

    @After fun endWorld() {
        controllers.forEach { runCatching { it.pause().stop().destroy() } }
        TestWorld.end()
    }

    val services: Services get() = (RuntimeEnvironment.getApplication() as TestApp).services

    inline fun <reified A : Activity> open(intent: Intent? = null): ActivityController<A> = open(A::class.java, intent)

    fun <A : Activity> open(type: Class<A>, intent: Intent?): ActivityController<A> =
        Robolectric.buildActivity(type, intent ?: Intent(RuntimeEnvironment.getApplication(), type)).setup().also { controllers += it }

    /** The last view with [id]: of a conversation that of the newest turn. */
    fun Activity.last(id: Int): View = views().last { it.id == id }

    fun Activity.text(id: Int): String = (last(id) as TextView).text.toString()

    fun Activity.isShown(id: Int): Boolean = last(id).visibility == View.VISIBLE

    fun Activity.click(id: Int) {
        check(last(id).let { it.isEnabled && it.isShown && it.performClick() }) { "cannot be clicked" }
    }

    /** Everything that the screen says. */
    fun Activity.says(): String = views().filterIsInstance<TextView>().filter { it.isShown }.joinToString("\n") { it.text }

    fun Activity.views(): List<View> = all(window.decorView)

    private fun all(view: View): List<View> = listOf(view) + if (view is ViewGroup) (0 until view.childCount).flatMap { all(view.getChildAt(it)) } else emptyList()

    /** Leaves a picture of the screen in the folder of `--pictures`, if there is one. */
    fun Activity.picture(name: String) {
        val decor = window.decorView
        val bitmap = Bitmap.createBitmap(decor.width, decor.height, Bitmap.Config.ARGB_8888)
        decor.draw(Canvas(bitmap))
        val folder = System.getProperty("firsttoken.pictures") ?: return
        File(folder).mkdirs()
        File(folder, "$name.png").outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }
}
