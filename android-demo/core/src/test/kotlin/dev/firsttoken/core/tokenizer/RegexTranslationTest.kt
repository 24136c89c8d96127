package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.assertRefused
import org.junit.Assert.assertEquals
import org.junit.Test

class RegexTranslationTest {
    private fun matches(expression: String, text: String): List<String> = buildList { RegexTranslation.compile(expression).each(text) { from, to -> add(text.substring(from, to)) } }

    @Test fun spaceIsUnicodesWhiteSpace() {
        assertEquals(listOf("\u00a0\u2003\u3000\u0085\u000b"), matches("\\s+", "a\u00a0\u2003\u3000\u0085\u000bb\u200b\u001c"))
        assertEquals(listOf("a", "\u200b"), matches("\\S+", "a\u00a0\u200b"))
        assertEquals(listOf("a"), matches("[^\\s\\p{N}]+", "\u00a0a1"))
    }

    @Test fun ignoringCaseKnowsTheLongS() = assertEquals(listOf("'S", "'ſ", "'ll", "'LL"), matches("(?i:'s|'ll)", "'S 'ſ 'll 'LL 'd"))

    @Test fun afterTheGroupCaseCountsAgain() = assertEquals(listOf("Ab"), matches("(?i:a)b", "Ab AB"))

    @Test fun hyphensSpacesAndSignsInClassesAreThemselves() {
        assertEquals(listOf("-", "#", " ", "~"), matches("[ #~-]", "-# ~a"))
        assertEquals(listOf("]", "\\"), matches("[\\]\\\\]", "a]\\"))
        assertEquals(listOf("漢字"), matches("[一-龥]+", "a漢字b"))
    }

    @Test fun scriptsAndCategoriesAreTaken() = assertEquals(listOf("漢", "A"), matches("\\p{Han}|\\p{Lu}", "漢Aa"))

    @Test fun categoriesAreThoseOfTheLibraryAndNotOfThisJava() {
        // letters of Unicode 14 to 16 and a digit of 16, which Java 17 and Android before 15 take for unassigned
        assertEquals(listOf("\ud81d\udf8f", "\ud837\udf00", "\ud884\udf50", "\u1c89"), matches("\\p{L}", "\ud81d\udf8f \ud837\udf00 \ud884\udf50 \u1c89 \ud803\udd40"))
        assertEquals(listOf("\ud803\udd40"), matches("\\p{Nd}", "\ud803\udd40\ud803\udd4a"))
    }

    @Test fun matchesLieWhereTheyAreInTheTextWhateverCameBefore() {
        assertEquals(listOf("漢😀", "a", "😀"), matches("[^ ]+(?= )|😀", "漢😀 a 😀"))
        assertEquals(listOf("é", "\ud835\udfd8", "è"), matches("[à-ÿ]|\\p{N}", "é😀\ud835\udfd8Aè"))
    }

    @Test fun theEndOfALineIsRubys() {
        assertEquals(listOf("  ", " "), matches("\\s+$", "a  \n b c "))
        assertEquals(listOf("\n"), matches("\\s+$", "a\n"))
        assertEquals(listOf("b", "c"), matches("[a-c]$", "ab\nc"))
    }

    @Test fun aHyphenThatJoinsNothingIsItself() = assertEquals(listOf(" ", "-", "a", "-", "c"), matches("[\\s-a]|[b-c-]", " -ax-c"))

    @Test fun whatIsNotKnownIsRefusedByName() {
        for ((expression, part) in mapOf("^a" to "'^'", "\\w+" to "'\\w'", "\\bx" to "'\\b'", "(a)\\1" to "'\\1'", "(?<n>a)" to "(?<n", "[[:alpha:]]" to "class inside", "[a&&b]" to "&&",
            "a{2}+" to "{2}+", "(?i:[a-z])" to "ignoring case", "(a" to "without ')'", "a)" to "without '('", "[a" to "without ']'", "\\p{^L}" to "\\p", "\\p{Linear}" to "\\p{Linear}", "[z-a]" to "ends before it begins", "a{" to "'{'")) {
            assertRefused(TOKENIZER_FILE, expression, part) { RegexTranslation.compile(expression) }
        }
    }
}
