package dev.firsttoken.core.chat

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class ThinkingTest {
    private fun split(text: String, begins: Boolean = false) = Thinking.split(text, begins).let { Triple(it.thought, it.answer, it.isOver) }

    @Test fun anAnswerWithoutThoughtsIsItself() {
        assertEquals(Triple(null, "Yes. <think> is a tag.", true), split("Yes. <think> is a tag."))
        assertEquals(Triple(null, " leading space", true), split(" leading space"))
    }

    @Test fun thoughtsComeApart() {
        assertEquals(Triple("Why?", "Because.", true), split("<think>\nWhy?\n</think>\n\nBecause."))
        assertEquals(Triple("Why?", "", false), split("\n<think>\nWhy?"))
        assertEquals(Triple("Why?", "Because.", true), split("Why?\n</think>\n\nBecause.", begins = true))
        assertEquals("R1 may write it again", Triple("Why?", "So.", true), split("<think>\nWhy?\n</think>So.", begins = true))
    }

    @Test fun emptyThoughtsAreNone() = assertEquals(Triple(null, "Yes.", true), split("<think>\n\n</think>\n\nYes."))

    @Test fun onlyTheFirstEndCounts() = assertEquals(Triple("a", "b </think> c", true), split("<think>a</think>b </think> c"))

    @Test fun noTokenOfAStreamShowsHalfATag() {
        val whole = "<think>\nOne < two.\n</think>\n\nThree."
        for (length in 0..whole.length) {
            val (thought, answer, isOver) = split(whole.take(length))
            assertTrue("$length: $thought", thought == null || "One < two.".startsWith(thought) || thought.trimEnd('<', ' ').let("One < two."::startsWith))
            assertTrue("$length: $answer", "Three.".startsWith(answer) && (answer.isEmpty() || isOver))
        }
    }
}
