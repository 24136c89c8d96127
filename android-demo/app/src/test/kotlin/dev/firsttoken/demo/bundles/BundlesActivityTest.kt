package dev.firsttoken.demo.bundles

import android.content.Intent
import android.net.Uri
import android.view.View
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.measure.MeasureActivity
import java.io.ByteArrayInputStream
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowAlertDialog

class BundlesActivityTest : ScreenTest() {
    private val document = Uri.parse("content://documents/bundle.zip")

    private fun opened(count: Int): BundlesActivity {
        val screen = open<BundlesActivity>().get()
        waitFor("$count bundles") { screen.findViewById<android.view.ViewGroup>(R.id.bundles).childCount == count && (count > 0 || screen.isShown(R.id.empty)) }
        return screen
    }

    private fun provide(bytes: ByteArray) = shadowOf(RuntimeEnvironment.getApplication().contentResolver).registerInputStreamSupplier(document) { ByteArrayInputStream(bytes) }

    @Test fun anEmptyPhoneSaysHowToFillIt() {
        val screen = opened(0)
        assertTrue("firsttoken device profile BUNDLE" in screen.says())
        assertFalse(screen.findViewById<View>(R.id.measure).isEnabled)
    }

    @Test fun everyBundleIsShownWithWhatItIsAndWhetherItRuns() {
        TestWorld.stageSeveral()
        val said = opened(4).says()
        assertTrue("fp16-attention for tflite-xnnpack" in said && "8.00 billion parameters" in said)
        assertTrue("Proven: 99.0 % of its next tokens are the checkpoint’s (mean KL divergence 0.00010)." in said)
        assertTrue("Proof failed: 99.0 % of its next tokens" in said)
        assertTrue("Does not run here: this build of the app carries no ExecuTorch" in said)
        assertTrue(said, "A bundle that cannot be read" in said && "Folder 4444" in said && "Does not run here: manifest.json:" in said)
    }

    @Test fun aBundleThatRunsCanBeTried() {
        TestWorld.stageSeveral()
        val screen = opened(4)
        val buttons = screen.views().filter { it.id == R.id.open && it.isShown }
        assertEquals(2, buttons.size)
        assertEquals("Try demo", buttons[0].contentDescription)
        buttons[0].performClick()
        val started = shadowOf(screen).nextStartedActivity
        assertEquals("dev.firsttoken.demo.answer.TryActivity", started.component!!.className)
        screen.click(R.id.measure)
        assertEquals(MeasureActivity::class.java.name, shadowOf(screen).nextStartedActivity.component!!.className)
    }

    @Test fun aPickedArchiveIsImportedAndCanBeRemoved() {
        provide(TestWorld.archive())
        val screen = opened(0)
        screen.click(R.id.import_bundle)
        val request = shadowOf(screen).nextStartedActivityForResult
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, request.intent.action)
        shadowOf(screen).receiveResult(request.intent, android.app.Activity.RESULT_OK, Intent().setData(document))
        waitFor("the import") { services.imports.state.isDone }
        waitFor("the bundle in the list") { screen.findViewById<android.view.ViewGroup>(R.id.bundles).childCount == 1 }
        assertTrue("every file’s hash is the manifest’s" in screen.says())
        screen.views().single { it.id == R.id.remove && it.isShown }.performClick()
        val dialog = ShadowAlertDialog.getLatestAlertDialog()
        dialog.getButton(android.app.AlertDialog.BUTTON_POSITIVE).performClick()
        waitFor("the empty list") { screen.isShown(R.id.empty) }
    }

    @Test fun aDamagedArchiveIsRefusedWithTheReason() {
        provide(TestWorld.archive { File(it, "model.tflite").writeText("54321") })
        val screen = opened(0)
        services.imports.start(document)
        waitFor("the refusal") { services.imports.state.message != null }
        assertTrue("Not imported: model.tflite: its SHA-256 is not the manifest's" in screen.says())
        provide("no archive".toByteArray())
        services.imports.start(document)
        waitFor("the next refusal") { "not a .zip archive" in services.imports.state.message.orEmpty() }
    }

    @Test fun aBundleOfAnOlderVersionSaysWhatToDo() {
        TestWorld.stage { it.replace("\"schema_version\":2", "\"schema_version\":1") }
        assertTrue("Does not run here: manifest.json: got schema version 1, this app reads 2; export the checkpoint again" in opened(1).says())
    }

    @Test fun bundlesOfTheCommandAreNotTheAppsToRemove() {
        TestWorld.stage()
        assertTrue(opened(1).views().none { it.id == R.id.remove && it.isShown })
    }
}
