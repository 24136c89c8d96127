package dev.firsttoken.core.tokenizer

import org.junit.Assert.assertEquals
import org.junit.Test

class AddedTokensTest {
    private fun token(id: Int, content: String, singleWord: Boolean = false, left: Boolean = false, right: Boolean = false) = AddedToken(id, content, true, false, singleWord, left, right)

    private fun split(text: String, vararg tokens: AddedToken) = AddedTokens(tokens.toList()).split(text, true).map { if (it.id >= 0) it.id else it.text }

    @Test fun theLongestOfTheLeftmostIsTaken() = assertEquals(listOf("x", 2, "b"), split("x<a><b>b", token(1, "<a>"), token(2, "<a><b>"), token(3, "<b>")))

    @Test fun spaceGoesWithTheTokenThatWantsIt() = assertEquals(listOf("a", 1, 2, "b"), split("a \n<l><r>\u3000 b", token(1, "<l>", left = true), token(2, "<r>", right = true)))

    @Test fun aSingleWordStandsAlone() = assertEquals(listOf("imports ", 1, " reimport _import ", 1), split("imports import reimport _import import", token(1, "import", singleWord = true)))

    @Test fun nothingComesOutOfNothing() = assertEquals(emptyList<Any>(), split("", token(1, "<a>")))
}
