package dev.firsttoken.demo.answer

import android.content.Intent
import android.os.Bundle
import android.view.ViewGroup
import android.widget.EditText
import dev.firsttoken.core.Parity
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestApp
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.measure.MeasurementProvider
import java.io.File
import java.util.concurrent.CountDownLatch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController

/** Several turns: what is sent, kept, measured and shown of them. */
class ConversationTest : ScreenTest() {
    private val intent get() = TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.FIRST)
    private val state get() = services.answers.state
    private val pieces = Regex("""\{"open":.*?"after_thinking":"none"}""")

    private fun opened(): ActivityController<TryActivity> = open(intent)

    private fun TryActivity.ask(text: String) {
        val before = state.earlier.size to state.turn
        findViewById<EditText>(R.id.prompt).setText(text)
        click(R.id.send)
        waitFor("the answer to $text") { !state.isRunning && (state.earlier.size to state.turn) != before }
    }

    private fun staged(change: (String) -> String = { it }): TryActivity {
        TestWorld.stage(change = change)
        return opened().get()
    }

    @Test fun theSecondTurnGoesOnFromTheFirstAndRunsOnlyWhatIsNew() {
        val screen = staged()
        screen.ask("What is a token?")
        assertEquals("", screen.text(R.id.prompt))
        screen.ask("And then?")
        val (first, second) = state.earlier.single() to state.turn!!
        assertEquals(Phase.DONE, state.phase)
        assertEquals("What is a token?" to TestWorld.ANSWER, first.question to first.text)
        assertEquals(0, first.cachedTokens)
        assertTrue("${second.cachedTokens} of ${second.promptTokens}", second.cachedTokens >= first.promptTokens && second.cachedTokens < second.promptTokens)
        assertEquals(1, screen.findViewById<ViewGroup>(R.id.earlier).childCount)
        assertTrue("What is a token?" in screen.says() && "And then?" in screen.says())
        screen.click(R.id.first_token)
        assertTrue(screen.text(R.id.figures), "${second.cachedTokens} of these tokens were in the KV cache" in screen.text(R.id.figures))
    }

    @Test fun eachTurnIsARunOfTheMeasurementFile() {
        val screen = staged()
        for (question in listOf("What is a token?", "And then?", "And then?")) screen.ask(question)
        assertFalse("folded away with the stages", screen.isShown(R.id.share))
        screen.click(R.id.first_token)
        screen.click(R.id.share)
        waitFor("the question whom to share it with") { shadowOf(screen).peekNextStartedActivity() != null }
        assertEquals(Intent.ACTION_CHOOSER, shadowOf(screen).nextStartedActivity.action)
        val file = MeasurementProvider.file(screen)
        val runs = MeasurementReader.read(file).results.single().runs
        assertEquals(listOf(1, 2, 3), runs.map { it.turn })
        assertEquals(listOf("cold", "warm", "warm"), runs.map { it.state })
        assertTrue(runs[0].stages.load != null && runs.drop(1).all { it.stages.load == null && it.cachedTokens!! > 0 })
        assertEquals(runs[2].promptTokens, state.turn!!.promptTokens)
        file.copyTo(File(Parity.folder(), "written/conversation.json").apply { parentFile.mkdirs() }, overwrite = true)
        screen.click(R.id.new_chat)
        screen.ask("Anew")
        waitFor("a file of its own") { services.answersMeasured()?.results?.single()?.runs?.map { it.turn } == listOf(1) }
    }

    private fun dev.firsttoken.demo.Services.answersMeasured() = File(RuntimeEnvironment.getApplication().filesDir, "conversation.measurement.json").takeIf { it.isFile }?.let(MeasurementReader::read)

    @Test fun aNewChatForgetsTheOldOneOnDiskToo() {
        val screen = staged()
        screen.ask("What is a token?")
        screen.click(R.id.new_chat)
        assertEquals("Ready.", screen.text(R.id.phase))
        assertFalse(screen.isShown(R.id.newest) || screen.isShown(R.id.new_chat))
        waitFor("nothing on disk") { RuntimeEnvironment.getApplication().filesDir.list().orEmpty().none { it.startsWith("conversation") } }
        screen.ask("Anew")
        assertTrue(state.earlier.isEmpty())
    }

    @Test fun thoughtsAreFoldedAndTheAnswersFirstTokenHasATimeOfItsOwn() {
        TestWorld.answer = "<think>\nA frame first.\n</think>\n\nThen the token."
        val screen = staged()
        screen.ask("When?")
        assertEquals("Then the token.", screen.text(R.id.answer))
        assertTrue(screen.isShown(R.id.thought_toggle) && !screen.isShown(R.id.thought))
        assertTrue(screen.text(R.id.first_token_line), Regex("First token .* · first answer token .* · .* tokens/s ▸").matches(screen.text(R.id.first_token_line)))
        assertTrue(state.turn!!.firstAnswer!! > state.stages!!.firstToken)
        screen.click(R.id.thought_toggle)
        assertEquals("A frame first.", screen.text(R.id.thought))
        assertTrue(screen.isShown(R.id.thought))
        assertNotNull(services.answersMeasured()!!.results.single().runs.single().firstAnswer)
        screen.ask("And?")
        assertFalse("folded again", screen.isShown(R.id.thought))
    }

    @Test fun whileItThinksTheScreenSaysSo() {
        TestWorld.answer = "<think>\nA frame first.\n</think>\n\nThen the token."
        TestWorld.decoding = CountDownLatch(1)
        val screen = staged()
        screen.findViewById<EditText>(R.id.prompt).setText("When?")
        screen.click(R.id.send)
        waitFor("the first token") { state.phase == Phase.GENERATING && state.stages != null }
        assertEquals("", screen.text(R.id.answer))
        assertNull(state.turn!!.firstAnswer)
        TestWorld.decoding.countDown()
        waitFor("the end") { state.phase == Phase.DONE }
    }

    @Test fun theConversationOutlivesTurningThePhoneAndItsProcess() {
        TestWorld.stage()
        val controller = opened()
        controller.get().ask("What is a token?")
        controller.get().ask("And then?")
        controller.get().findViewById<EditText>(R.id.prompt).setText("half a quest")
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange().visible()
        fun check(screen: TryActivity) {
            waitFor("both turns") { "What is a token?" in screen.says() && "And then?" in screen.says() }
            assertEquals("half a quest", screen.text(R.id.prompt))
            assertEquals(1, screen.findViewById<ViewGroup>(R.id.earlier).childCount)
        }
        check(controller.get())
        val saved = Bundle()
        controller.pause().saveInstanceState(saved).stop()
        (RuntimeEnvironment.getApplication() as TestApp).killed()
        val after = Robolectric.buildActivity(TryActivity::class.java, intent).setup(saved).get()
        check(after)
        after.ask("Still there?")
        assertEquals(listOf("What is a token?", "And then?"), state.earlier.map { it.question })
        assertEquals("the cache went with the process", 0, state.turn!!.cachedTokens)
    }

    @Test fun aProcessKilledInAnAnswerKeepsTheQuestion() {
        TestWorld.decoding = CountDownLatch(1)
        val screen = staged()
        screen.findViewById<EditText>(R.id.prompt).setText("What is a token?")
        screen.click(R.id.send)
        waitFor("the first token") { state.phase == Phase.GENERATING }
        val next = nextProcess().answers
        next.restore()
        waitFor("the question") { next.state.phase == Phase.CANCELLED }
        assertEquals("What is a token?", next.state.turn!!.question)
    }

    @Test fun aSystemPromptGoesBeforeTheQuestions() {
        val screen = staged { it.replace(Regex("\"prefix\":\\{\"file\"[^}]*\\}"), "\"prefix\":null") }
        screen.ask("What is a token?")
        val without = state.turn!!.promptTokens
        screen.click(R.id.new_chat)
        screen.findViewById<EditText>(R.id.system).setText("Be brief.")
        screen.ask("What is a token?")
        assertEquals(Phase.DONE, state.phase)
        assertTrue(state.turn!!.promptTokens > without)
    }

    @Test fun theOneThatTheBundleKeepsIsTakenWhereNoOtherIsGiven() {
        val screen = staged()
        screen.ask("What is a token?")
        val kept = state.turn!!.promptTokens
        screen.click(R.id.new_chat)
        screen.findViewById<EditText>(R.id.system).setText("Be brief.") // the same
        screen.ask("What is a token?")
        assertEquals(kept, state.turn!!.promptTokens)
        screen.click(R.id.new_chat)
        screen.findViewById<EditText>(R.id.system).setText("Be brief, and polite.")
        screen.ask("What is a token?")
        assertTrue(state.turn!!.promptTokens > kept)
    }

    @Test fun aTemplateThatNeedsJinjaIsRefusedByNameAndQuestionsAreAnsweredByThemselves() {
        val screen = staged { it.replace(pieces, "null").replace("\"conversation_refused\":null", "\"conversation_refused\":\"it counts the turns\"") }
        assertTrue(screen.says(), "Every question is answered by itself: this bundle's chat template cannot be written without Jinja (it counts the turns)." in screen.says())
        screen.ask("What is a token?")
        val alone = state.turn!!.promptTokens
        screen.ask("What is a token?")
        assertEquals("nothing of the first is sent", alone, state.turn!!.promptTokens)
        assertEquals("both are shown", 1, screen.findViewById<ViewGroup>(R.id.earlier).childCount)
        screen.findViewById<EditText>(R.id.system).setText("Be brief.")
        screen.ask("Again?")
        assertTrue(screen.text(R.id.phase), "a system prompt cannot be given" in screen.text(R.id.phase))
        assertEquals("to be sent again", "Again?", screen.text(R.id.prompt))
    }

    @Test fun aConversationThatIsTooLongSaysSoAndKeepsTheModel() {
        val screen = staged()
        screen.ask("What is a token?")
        screen.ask("word ".repeat(3000))
        assertTrue(screen.text(R.id.phase), "start a new chat" in screen.text(R.id.phase))
        screen.findViewById<EditText>(R.id.prompt).setText("")
        screen.ask("Shorter")
        assertEquals("the one that did not fit is no turn", listOf("What is a token?"), state.earlier.map { it.question })
        assertNull("nothing was loaded again", state.stages!!.load)
    }
}
