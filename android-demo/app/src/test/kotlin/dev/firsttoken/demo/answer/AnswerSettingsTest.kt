package dev.firsttoken.demo.answer

import android.os.Bundle
import android.view.View
import android.widget.CheckBox
import android.widget.EditText
import android.widget.RadioButton
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.generate.ThinkingBounds
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.android.controller.ActivityController

/** The settings of "Try it", on their screen. */
class AnswerSettingsTest : ScreenTest() {
    @Before fun stage() {
        TestWorld.stage()
    }

    private val intent get() = TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.FIRST)

    private fun opened(): ActivityController<TryActivity> = open(intent)

    private fun TryActivity.type(id: Int, text: String) = findViewById<EditText>(id).setText(text)

    private fun TryActivity.choose(id: Int) {
        findViewById<RadioButton>(id).isChecked = true
    }

    private fun TryActivity.ask() {
        type(R.id.prompt, "What is a token?")
        click(R.id.send)
    }

    private val state get() = services.answers.state

    @Test fun theyAreClosedAtFirstAndSayWhatTheyAre() {
        val screen = opened().get()
        assertFalse(screen.isShown(R.id.settings))
        assertTrue(screen.text(R.id.settings_toggle), "greedy, at most 256 tokens" in screen.text(R.id.settings_toggle))
        val toggle = screen.findViewById<View>(R.id.settings_toggle)
        assertTrue("closed" in toggle.contentDescription)
        screen.click(R.id.settings_toggle)
        assertTrue(screen.isShown(R.id.settings) && "open" in toggle.contentDescription)
        assertFalse("a greedy answer has no temperature", screen.findViewById<View>(R.id.temperature).isEnabled)
        screen.choose(R.id.sampled)
        assertTrue(listOf(R.id.temperature, R.id.top_k, R.id.seed).all { screen.findViewById<View>(it).isEnabled })
        screen.click(R.id.settings_toggle)
        assertFalse(screen.isShown(R.id.settings))
        assertTrue("sampled at temperature 0.8" in screen.text(R.id.settings_toggle))
    }

    @Test fun theyReachTheEngine() {
        val screen = opened().get()
        screen.type(R.id.max_tokens, "3")
        screen.type(R.id.threads, "7")
        screen.ask()
        waitFor("the end") { state.phase == Phase.DONE }
        assertEquals(Stop.LENGTH to 3, state.stop to state.newTokens)
        assertEquals(7, TestWorld.threads)
        screen.type(R.id.max_tokens, "40")
        screen.ask()
        waitFor("an answer that ends by itself") { state.stop == Stop.END }
        val whole = state.newTokens
        screen.findViewById<CheckBox>(R.id.stop_at_end).isChecked = false
        screen.ask()
        waitFor("one that goes on") { state.phase == Phase.DONE && state.newTokens > whole }
        assertEquals(Stop.LENGTH, state.stop)
    }

    @Test fun whatIsSampledIsWhatWasTyped() {
        val typed = AnswerSettings.parse(TypedSettings(true, "0,5", " 12 ", "0,9", ".05", "99", "8", "2", true, "Be brief."))
        assertEquals(AnswerSettings(true, 0.5, 12, 99, 8, 2, true, 0.9, 0.05, "Be brief."), typed)
        with(typed.options) { assertEquals(listOf<Any>(0.5, 12, 0.9, 0.05, 99L, 8, true), listOf<Any>(temperature, topK, topP, minP, seed, maxTokens, stopAtEnd)) }
        with(typed.copy(isSampled = false).options) { assertEquals("greedy draws from nothing", listOf<Any>(0.0, 0, 1.0, 0.0), listOf<Any>(temperature, topK, topP, minP)) }
    }

    @Test fun boundsOnThinkingAreThereWhereTheyWereTyped() {
        val typed = TypedSettings(false, "", "", "", "", "", "8", "2", true, "")
        assertNull(AnswerSettings.parse(typed).options.thinking)
        assertEquals(ThinkingBounds(0), AnswerSettings.parse(typed.copy(mostThinking = "0")).options.thinking)
        assertEquals(ThinkingBounds(null, 5), AnswerSettings.parse(typed.copy(leastThinking = " 5 ")).options.thinking)
        val screen = opened().get()
        screen.type(R.id.most_thinking, "3")
        screen.ask()
        waitFor("the end") { state.phase == Phase.FAILED }
        assertTrue(state.error.orEmpty(), "so the end of its thinking cannot be decided" in state.error.orEmpty())
        assertEquals("kept for the next time", "3", opened().get().text(R.id.most_thinking))
    }

    @Test fun whatCannotBeIsRefusedAndTheSettingsOpen() {
        val good = TypedSettings(true, "1", "0", "1", "0", "0", "1", "1", true, "")
        fun refused(typed: TypedSettings) = assertThrows(FirstTokenException::class.java) { AnswerSettings.parse(typed) }.message
        fun refusal(temperature: String = "1", topK: String = "0", seed: String = "0", max: String = "1", threads: String = "1") =
            refused(good.copy(temperature = temperature, topK = topK, seed = seed, maxTokens = max, threads = threads))
        assertEquals("top-p is '0'; expected 0.01 to 1.0", refused(good.copy(topP = "0")))
        assertEquals("min-p is '1.5'; expected 0.0 to 1.0", refused(good.copy(minP = "1.5")))
        assertEquals("the most tokens of thinking is '-1'; expected 0 to 100000", refused(good.copy(mostThinking = "-1")))
        assertEquals("the least tokens of thinking is 'x'; expected 0 to 100000", refused(good.copy(leastThinking = "x", isSampled = false)))
        assertTrue("at most 20000" in refused(good.copy(system = "s".repeat(20_001))).orEmpty())
        assertEquals("the temperature is '0'; expected 0.01 to 100.0", refusal(temperature = "0"))
        assertEquals("the temperature is 'NaN'; expected 0.01 to 100.0", refusal(temperature = "NaN"))
        assertEquals("top-k is '-1'; expected 0 to 1000000", refusal(topK = "-1"))
        assertEquals("the seed is '99999999999999999999'; expected 0 to 9223372036854775807", refusal(seed = "9".repeat(400)))
        assertEquals("the most new tokens is ''; expected 1 to 100000", refusal(max = ""))
        assertEquals("the number of threads is '17'; expected 1 to 16", refusal(threads = "17"))
        val screen = opened().get()
        screen.type(R.id.threads, "0")
        screen.ask()
        assertEquals("the number of threads is '0'; expected 1 to 16", screen.text(R.id.phase))
        assertTrue("what is wrong is in sight", screen.isShown(R.id.settings))
        assertEquals(Phase.IDLE, state.phase)
        screen.type(R.id.threads, "1")
        screen.type(R.id.temperature, "nothing that a greedy answer uses")
        screen.ask()
        waitFor("the end") { state.phase == Phase.DONE }
    }

    @Test fun theySurviveTurningThePhone() {
        val controller = opened()
        val before = controller.get()
        before.click(R.id.settings_toggle)
        before.choose(R.id.sampled)
        before.type(R.id.temperature, "1.5")
        before.type(R.id.seed, "not yet a numb")
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange()
        check(controller.get())
    }

    @Test fun theySurviveAKilledProcess() {
        val before = opened()
        before.get().click(R.id.settings_toggle)
        before.get().choose(R.id.sampled)
        before.get().type(R.id.temperature, "1.5")
        before.get().type(R.id.seed, "not yet a numb")
        val saved = Bundle()
        before.pause().saveInstanceState(saved).stop()
        check(Robolectric.buildActivity(TryActivity::class.java, intent).setup(saved).get())
    }

    private fun check(screen: TryActivity) {
        assertTrue(screen.isShown(R.id.settings) && screen.findViewById<RadioButton>(R.id.sampled).isChecked)
        assertEquals("1.5" to "not yet a numb", screen.text(R.id.temperature) to screen.text(R.id.seed))
        assertTrue(screen.findViewById<View>(R.id.temperature).isEnabled)
        assertTrue("sampled at temperature 1.5" in screen.text(R.id.settings_toggle))
    }

    @Test fun whatWasSentLastIsThereTheNextTime() {
        val screen = opened().get()
        screen.choose(R.id.sampled)
        screen.type(R.id.top_k, "7")
        screen.type(R.id.max_tokens, "5")
        screen.type(R.id.top_p, "0.9")
        screen.type(R.id.min_p, "0.05")
        screen.type(R.id.system, "Be brief.")
        screen.ask()
        waitFor("the end") { state.phase == Phase.DONE }
        val next = opened().get()
        assertEquals("7" to "5", next.text(R.id.top_k) to next.text(R.id.max_tokens))
        assertEquals(listOf("0.9", "0.05", "Be brief."), listOf(R.id.top_p, R.id.min_p, R.id.system).map { next.text(it) })
        assertTrue(next.findViewById<RadioButton>(R.id.sampled).isChecked)
    }
}
