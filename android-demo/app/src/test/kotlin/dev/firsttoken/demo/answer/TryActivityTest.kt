package dev.firsttoken.demo.answer

import android.content.ComponentCallbacks2
import android.view.View
import android.widget.EditText
import dev.firsttoken.core.chat.ConversationFile
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestApp
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.measure.MeasureOptions
import dev.firsttoken.demo.view.StageBarView
import java.io.File
import java.util.concurrent.CountDownLatch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.robolectric.RuntimeEnvironment
import org.robolectric.android.controller.ActivityController

class TryActivityTest : ScreenTest() {
    @Before fun stage() {
        TestWorld.stage()
    }

    private fun opened(): ActivityController<TryActivity> = open(TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.FIRST))

    private fun TryActivity.ask(text: String = "What is a token?") {
        findViewById<EditText>(R.id.prompt).setText(text)
        click(R.id.send)
    }

    private val state get() = services.answers.state

    @Test fun waitingIsExplainedAndTheAnswerStreams() {
        TestWorld.loading = CountDownLatch(1)
        TestWorld.prefill = CountDownLatch(1)
        TestWorld.decoding = CountDownLatch(1)
        val screen = opened().get()
        assertEquals("Ready.", screen.text(R.id.phase))
        waitFor("its name above it") { screen.actionBar!!.title == "demo · fp16-attention · tflite-xnnpack" }
        screen.ask()
        waitFor("loading") { screen.text(R.id.phase) == "Loading the model…" }
        assertTrue(screen.isShown(R.id.busy) && screen.isShown(R.id.cancel))
        TestWorld.loading.countDown()
        waitFor("reading") { screen.text(R.id.phase) == "Reading the prompt…" }
        TestWorld.prefill.countDown()
        waitFor("the first token") { screen.text(R.id.phase) == "Generating…" }
        assertTrue("first token in words", "First token on the screen after" in screen.text(R.id.figures))
        assertTrue(screen.isShown(R.id.first_token) && screen.text(R.id.answer).isNotEmpty())
        assertFalse("no speed yet", "tokens a second" in screen.text(R.id.figures))
        TestWorld.decoding.countDown()
        waitFor("the end") { state.phase == Phase.DONE }
        assertEquals(TestWorld.answer, screen.text(R.id.answer))
        assertTrue("tokens a second after the first" in screen.text(R.id.figures))
        assertEquals("Done: the answer has ended.", screen.text(R.id.phase))
        assertTrue(screen.isShown(R.id.send) && !screen.isShown(R.id.cancel))
        val described = screen.findViewById<StageBarView>(R.id.bar).contentDescription
        assertTrue("the bar is told too: $described", "Load the model:" in described && "Read the prompt (prefill):" in described)
    }

    @Test fun theFirstTokensFrameIsAStage() {
        val screen = opened().get()
        screen.ask()
        waitFor("the end") { state.phase == Phase.DONE }
        assertNotNull("the frame came", state.stages!!.render)
        assertTrue("Draw:" in screen.text(R.id.figures))
    }

    @Test fun theSecondPromptIsWarm() {
        val screen = opened().get()
        screen.ask()
        waitFor("the end") { state.phase == Phase.DONE }
        assertNotNull(state.stages!!.load)
        screen.ask("And then?")
        waitFor("the second end") { state.phase == Phase.DONE && state.stages!!.load == null }
        assertTrue("(warm," in screen.text(R.id.figures))
    }

    @Test fun anEmptyPromptIsNotSent() {
        val screen = opened().get()
        screen.ask("  ")
        assertEquals("Type a prompt first.", screen.findViewById<EditText>(R.id.prompt).error)
        assertEquals(Phase.IDLE, state.phase)
    }

    @Test fun stopEndsTheAnswerAndKeepsItsText() {
        TestWorld.decoding = CountDownLatch(1)
        val screen = opened().get()
        screen.ask()
        waitFor("the first token") { state.phase == Phase.GENERATING }
        screen.click(R.id.cancel)
        TestWorld.decoding.countDown()
        waitFor("the end") { state.phase == Phase.CANCELLED }
        assertEquals("Stopped.", screen.text(R.id.phase))
        assertTrue(screen.text(R.id.answer).isNotEmpty() && screen.text(R.id.answer) != TestWorld.answer)
    }

    @Test fun theAnswerGoesOnWhileTheScreenIsTurned() {
        TestWorld.decoding = CountDownLatch(1)
        val controller = opened()
        controller.get().ask()
        waitFor("the first token") { state.phase == Phase.GENERATING }
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        val turned = controller.get()
        assertEquals("Generating…", turned.text(R.id.phase))
        assertEquals("What is a token?", turned.text(R.id.question))
        TestWorld.decoding.countDown()
        waitFor("the end") { state.phase == Phase.DONE }
        assertEquals(TestWorld.answer, turned.text(R.id.answer))
    }

    @Test fun aKilledProcessLosesNoFinishedAnswer() {
        val controller = opened()
        controller.get().ask()
        waitFor("the end") { state.phase == Phase.DONE }
        val before = state
        val next = nextProcess().answers
        next.restore()
        waitFor("the old answer") { next.state.phase == Phase.DONE }
        val after = next.state
        assertEquals(before.stages!!.byName, after.stages!!.byName)
        assertEquals(before.copy(turn = before.turn!!.copy(stages = null)), after.copy(turn = after.turn!!.copy(stages = null)))
        assertEquals(TestWorld.answer, after.text)
    }

    @Test fun aDamagedMemoryIsNoAnswer() {
        val file = File(RuntimeEnvironment.getApplication().filesDir, "conversation.json")
        opened().get().ask()
        waitFor("the end") { state.phase == Phase.DONE && "\"DONE\"" in file.readText() }
        val whole = file.readText()
        for (text in listOf("", "{}", whole.replace("DONE", "NO"), whole.take(whole.length / 2))) {
            file.writeText(text)
            assertNull(text, AnswerMemory(ConversationFile(file)).saved())
        }
    }

    @Test fun anAnswerIsShownUnderItsOwnBundleOnly() {
        TestWorld.stageSeveral()
        opened().get().ask()
        waitFor("the end") { state.phase == Phase.DONE }
        val other = open<TryActivity>(TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.SECOND)).get()
        assertEquals("", other.text(R.id.answer))
        assertEquals("Ready.", other.text(R.id.phase))
        assertFalse(other.isShown(R.id.first_token))
        assertEquals(TestWorld.answer, opened().get().text(R.id.answer))
    }

    @Test fun leavingTheScreenEndsTheAnswer() {
        TestWorld.decoding = CountDownLatch(1)
        val controller = opened()
        controller.get().ask()
        waitFor("the first token") { state.phase == Phase.GENERATING }
        controller.get().finish()
        controller.pause().stop().destroy()
        TestWorld.decoding.countDown()
        waitFor("the end") { state.phase == Phase.CANCELLED }
    }

    @Test fun whileABenchmarkRunsNothingIsAsked() {
        TestWorld.loading = CountDownLatch(1)
        services.measures.start(MeasureOptions(listOf(TestWorld.FIRST), listOf(32), 1, 1, 1, false))
        val screen = opened().get()
        screen.ask()
        assertTrue("A benchmark is running" in screen.text(R.id.phase))
        assertEquals(Phase.IDLE, state.phase)
    }

    @Test fun aShortOfMemoryPhoneGetsTheModelsBackAndTheAnswerStays() {
        val screen = opened().get()
        val app = RuntimeEnvironment.getApplication() as TestApp
        screen.ask()
        waitFor("the end") { state.phase == Phase.DONE }
        fun isColdAfter(pressure: () -> Unit): Boolean {
            pressure()
            assertEquals("the answer stays", TestWorld.answer, screen.text(R.id.answer))
            val before = state
            screen.ask("Once more?")
            waitFor("the end") { state.phase == Phase.DONE && state !== before }
            return state.stages!!.load != null
        }
        assertFalse("only out of sight: the model stays", isColdAfter { app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN) })
        assertTrue(isColdAfter { app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND) })
        assertTrue(isColdAfter { app.onTrimMemory(15) }) // TRIM_MEMORY_RUNNING_CRITICAL
        assertTrue(isColdAfter { app.onLowMemory() })
    }

    @Test fun memoryPressureDuringAnAnswerWaitsForItsEnd() {
        TestWorld.decoding = CountDownLatch(1)
        val screen = opened().get()
        screen.ask()
        waitFor("the first token") { state.phase == Phase.GENERATING }
        (RuntimeEnvironment.getApplication() as TestApp).onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_COMPLETE)
        TestWorld.decoding.countDown()
        waitFor("the end") { state.phase == Phase.DONE }
        assertEquals(TestWorld.answer, screen.text(R.id.answer))
    }

    @Test fun aModelThatDoesNotLoadSaysWhy() {
        TestWorld.openFails = UnsatisfiedLinkError("libtensorflowlite_jni.so is 32 bit")
        val screen = opened().get()
        screen.ask()
        waitFor("the failure") { state.phase == Phase.FAILED }
        assertEquals("Failed: UnsatisfiedLinkError: libtensorflowlite_jni.so is 32 bit", screen.text(R.id.phase))
        TestWorld.openFails = null
        screen.ask()
        waitFor("the next one") { state.phase == Phase.DONE }
    }

    @Test fun aPromptThatDoesNotFitTheCacheSaysSo() {
        val screen = opened().get()
        screen.ask("word ".repeat(3000))
        waitFor("the failure") { state.phase == Phase.FAILED }
        assertTrue(screen.text(R.id.phase).contains("do not fit the cache of 1280"))
    }

    @Test fun aBundleThatIsGoneClosesTheScreen() {
        val controller = open<TryActivity>(TryActivity.intent(RuntimeEnvironment.getApplication(), "55555555555555555555555555555555"))
        assertTrue(controller.get().isFinishing)
        assertTrue(open<TryActivity>(TryActivity.intent(RuntimeEnvironment.getApplication(), "../../etc")).get().isFinishing)
    }
}
