package dev.firsttoken.core.tokenizer

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class CodePointsTest {
    private fun CodePoints.all() = (0 until CodePoints.END).filter { it in this }

    @Test fun everyCharacterIsInOneCategory() {
        val letters = listOf("C", "L", "M", "N", "P", "S", "Z").map { CodePoints.category(it)!! }
        for (point in 0 until CodePoints.END) assertEquals("U+${Integer.toHexString(point)}", 1, letters.count { point in it })
        assertEquals(CodePoints.category("L")!!.all(), listOf("Lu", "Ll", "Lt", "Lm", "Lo").flatMap { CodePoints.category(it)!!.all() }.sorted())
    }

    @Test fun whatThisJavaKnowsAgreesButForWhatUnicodeChangedSince() {
        val categories = mapOf("Lu" to Character.UPPERCASE_LETTER, "Nd" to Character.DECIMAL_DIGIT_NUMBER, "Zs" to Character.SPACE_SEPARATOR, "Mn" to Character.NON_SPACING_MARK)
        for ((name, number) in categories) {
            val java = (0 until CodePoints.END).filter { Character.getType(it) == number.toInt() }
            val ours = CodePoints.category(name)!!
            assertEquals(name, emptyList<Int>(), java.filter { it !in ours && it !in CHANGED })
        }
    }

    @Test fun scriptsAndDigits() {
        assertEquals(true, '漢'.code in CodePoints.script("Han")!! && 'a'.code !in CodePoints.script("Han")!!)
        assertNull(CodePoints.script("Linear"))
        assertNull(CodePoints.category("X"))
        assertEquals(listOf(true, true, true, false), listOf('7', '½', '㊿', '一').map { it.code in CodePoints.numeric() })
    }

    @Test fun setsAreJoinedAndTurnedRound() {
        val set = CodePoints.union(listOf(CodePoints.of(5..9), CodePoints.of(0..2, 3..3), CodePoints.of(8..20)))
        assertArrayEquals(intArrayOf(0, 4, 5, 21), set.bounds)
        assertArrayEquals(intArrayOf(4, 5, 21, CodePoints.END), set.complement().bounds)
        assertArrayEquals(set.bounds, set.complement().complement().bounds)
        assertEquals(0, CodePoints.of(0..CodePoints.END - 1).complement().bounds.size)
    }

    private companion object {
        /** Kawi, Mongolian and others that got another category after Unicode 13, which Java 17 has. */
        val CHANGED = setOf(0x1734, 0x1b44, 0x1baa, 0x1bab, 0xa953, 0xa9c0, 0x111c0, 0x11235, 0x1134d, 0x11f41, 0x1171e)
    }
}
