package dev.firsttoken.demo

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.CheckBox
import android.widget.EditText
import android.widget.RadioButton
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.answer.Phase
import dev.firsttoken.demo.answer.TryActivity
import dev.firsttoken.demo.bundles.BundlesActivity
import dev.firsttoken.demo.measure.MeasureActivity
import java.util.concurrent.CountDownLatch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController

/** Screens on their way and gone wrong: waiting, stopped, failed, turned, killed; in light and dark. */
class StatesTest : PictureTest() {
    private val tryIntent get() = TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.FIRST)

    @Test fun inTheLight() = all("light", "w411dp-h891dp-notnight-420dpi")

    @Test fun inTheDark() = all("dark", "w411dp-h891dp-night-420dpi")

    private fun all(look: String, qualifiers: String) {
        RuntimeEnvironment.setQualifiers(qualifiers)
        SampleBundles.stageOne()
        settings(look)
        waiting(look)
        failing(look)
        killed(look)
        conversation(look)
        importing(look)
        measuring(look)
        refused(look)
        turned(look) // last: it leaves the phone turned
    }

    private fun asked(): ActivityController<TryActivity> {
        val controller = open<TryActivity>(tryIntent)
        controller.get().findViewById<EditText>(R.id.prompt).setText("When is a token on the screen?")
        controller.get().click(R.id.send)
        return controller
    }

    private fun settings(look: String) {
        val screen = open<TryActivity>(tryIntent).get()
        screen.findViewById<EditText>(R.id.prompt).setText("When is a token on the screen?")
        screen.findViewById<RadioButton>(R.id.sampled).isChecked = true
        screen.findViewById<EditText>(R.id.threads).setText("40")
        screen.click(R.id.send)
        assertTrue(screen.isShown(R.id.settings))
        finished(screen, "settings-$look")
        screen.findViewById<EditText>(R.id.threads).setText("4")
        screen.findViewById<RadioButton>(R.id.greedy).isChecked = true
        screen.click(R.id.settings_toggle)
    }

    private fun waiting(look: String) {
        TestWorld.loading = CountDownLatch(1)
        TestWorld.prefill = CountDownLatch(1)
        TestWorld.decoding = CountDownLatch(1)
        val screen = asked().get()
        finished(screen, "loading-$look")
        TestWorld.loading.countDown()
        waitFor("reading") { services.answers.state.phase == Phase.READING }
        finished(screen, "reading-$look")
        TestWorld.prefill.countDown()
        waitFor("the first token") { services.answers.state.phase == Phase.GENERATING }
        finished(screen, "generating-$look")
        screen.click(R.id.cancel)
        TestWorld.decoding.countDown()
        waitFor("the end") { services.answers.state.phase == Phase.CANCELLED }
        finished(screen, "stopped-$look")
    }

    private fun failing(look: String) {
        services.answers.forgetModel()
        TestWorld.openFails = UnsatisfiedLinkError("libtensorflowlite_jni.so is 32 bit")
        val screen = asked().get()
        waitFor("the failure") { services.answers.state.phase == Phase.FAILED }
        finished(screen, "failed-$look")
        val measure = begun("2")
        waitFor("the failure") { !services.measures.state.isRunning && services.measures.state.results != null }
        finished(measure.get(), "benchmark-failed-$look")
        TestWorld.openFails = null
    }

    /** The process is killed behind the user's back: the screen comes back from what Android and the disk have kept. */
    private fun killed(look: String) {
        val before = asked()
        waitFor("the end") { services.answers.state.phase == Phase.DONE }
        val saved = Bundle()
        before.pause().saveInstanceState(saved).stop()
        (RuntimeEnvironment.getApplication() as TestApp).killed()
        assertEquals("nothing is left in memory", Phase.IDLE, services.answers.state.phase)
        val after = Robolectric.buildActivity(TryActivity::class.java, tryIntent).setup(saved).get()
        waitFor("the old answer") { after.text(R.id.answer) == TestWorld.answer }
        assertEquals("When is a token on the screen?", after.text(R.id.question))
        assertTrue("First token on the screen after" in after.text(R.id.figures))
        finished(after, "restored-$look")
    }

    /** Two turns, the second with its thoughts and stages unfolded. */
    private fun conversation(look: String) {
        services.answers.startAnew()
        val screen = asked().get()
        waitFor("the first answer") { services.answers.state.phase == Phase.DONE }
        TestWorld.answer = "<think>\nThe user asks again. A frame has to be committed first.\n</think>\n\nOnce its frame is committed."
        screen.findViewById<EditText>(R.id.prompt).setText("In one line?")
        screen.click(R.id.send)
        waitFor("the second answer") { services.answers.state.run { phase == Phase.DONE && earlier.isNotEmpty() } }
        screen.click(R.id.thought_toggle)
        screen.click(R.id.first_token)
        finished(screen, "conversation-$look")
        TestWorld.answer = TestWorld.ANSWER
        services.answers.startAnew()
    }

    private fun importing(look: String) {
        val screen = open<BundlesActivity>().get()
        waitFor("the bundle") { screen.views().any { it.id == R.id.open } }
        val more = CountDownLatch(1)
        val document = Uri.parse("content://documents/${look}.zip")
        shadowOf(screen.contentResolver).registerInputStreamSupplier(document) { more.await(); "no archive".byteInputStream() }
        services.imports.start(document)
        waitFor("the import") { screen.isShown(R.id.stop_import) }
        finished(screen, "importing-$look")
        more.countDown()
        waitFor("the refusal") { "Not imported" in screen.says() }
        finished(screen, "import-failed-$look")
    }

    private fun begun(repeat: String): ActivityController<MeasureActivity> {
        val controller = open<MeasureActivity>()
        val screen = controller.get()
        waitFor("the bundles") { screen.views().any { it is CheckBox } }
        for ((id, text) in listOf(R.id.lengths to "32", R.id.repeat to repeat, R.id.decode to "4")) screen.findViewById<EditText>(id).setText(text)
        screen.click(R.id.start)
        return controller
    }

    private fun measuring(look: String) {
        TestWorld.secondsPerToken = 0.004
        val screen = begun("100").get()
        waitFor("a few runs") { services.measures.state.done >= 5 }
        finished(screen, "benchmark-running-$look")
        screen.click(R.id.stop)
        waitFor("the end") { !services.measures.state.isRunning }
        finished(screen, "benchmark-stopped-$look")
        TestWorld.secondsPerToken = 0.0
    }

    private fun refused(look: String) {
        val screen = begun("none").get()
        assertTrue("expected 1 to 1000" in screen.text(R.id.phase))
        finished(screen, "benchmark-refused-$look")
        val command: Activity = open<BenchmarkActivity>(Intent("dev.firsttoken.demo.BENCHMARK").setClass(RuntimeEnvironment.getApplication(), BenchmarkActivity::class.java).putExtra("id", "../../etc/passwd")).get()
        assertTrue("Not carried out" in command.says())
        finished(command, "command-refused-$look")
    }

    private fun turned(look: String) {
        TestWorld.decoding = CountDownLatch(1)
        val controller = asked()
        waitFor("the first token") { services.answers.state.phase == Phase.GENERATING }
        RuntimeEnvironment.setQualifiers("+w891dp-h411dp-land")
        controller.configurationChange().visible()
        assertEquals(View.VISIBLE, controller.get().findViewById<View>(R.id.first_token).visibility)
        TestWorld.decoding.countDown()
        waitFor("the end") { services.answers.state.phase == Phase.DONE }
        finished(controller.get(), "turned-$look")
    }
}
