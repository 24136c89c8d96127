package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.assertRefused
import org.junit.Assert.assertEquals
import org.junit.Test

class RegexTranslationTest {
    private fun matches(expression: String, text: String) = RegexTranslation.compile(expression).matcher(text).let { matcher -> generateSequence { if (matcher.find()) matcher.group() else null }.toList() }

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

    @Test fun whatIsNotKnownIsRefusedByName() {
        for ((expression, part) in mapOf("^a" to "'^'", "a$" to "'$'", "\\w+" to "'\\w'", "\\bx" to "'\\b'", "(a)\\1" to "'\\1'", "(?<n>a)" to "(?<n", "[[:alpha:]]" to "class inside", "[a&&b]" to "&&",
            "a{2}+" to "{2}+", "(?i:[a-z])" to "ignoring case", "(a" to "without ')'", "a)" to "without '('", "[a" to "without ']'", "\\p{^L}" to "\\p", "a{" to "'{'")) {
            assertRefused(TOKENIZER_FILE, expression, part) { RegexTranslation.compile(expression) }
        }
    }
}
