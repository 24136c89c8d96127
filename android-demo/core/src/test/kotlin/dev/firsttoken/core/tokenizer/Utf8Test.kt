package dev.firsttoken.core.tokenizer

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class Utf8Test {
    private fun bytes(vararg values: Int) = ByteArray(values.size) { values[it].toByte() }

    @Test fun everyCharacterComesBack() {
        for (point in (0..0x10ffff step 7).filter { it !in 0xd800..0xdfff }) {
            val text = String(Character.toChars(point))
            assertEquals(text, Utf8.decode(text.toByteArray()))
            assertEquals(text, Utf8.decodeStrictly(text.toByteArray()))
        }
    }

    @Test fun oneReplacementForEachLongestStart() {
        // the example of the Unicode Standard, chapter 3.9, tables 3-8 to 3-11
        assertEquals("\ufffd".repeat(8) + "A", Utf8.decode(bytes(0xc0, 0xaf, 0xe0, 0x80, 0xbf, 0xf0, 0x81, 0x82, 0x41)))
        assertEquals("\ufffd".repeat(8) + "A", Utf8.decode(bytes(0xed, 0xa0, 0x80, 0xed, 0xbf, 0xbf, 0xed, 0xaf, 0x41)))
        assertEquals("\ufffd".repeat(5) + "A" + "\ufffd".repeat(2) + "B", Utf8.decode(bytes(0xf4, 0x91, 0x92, 0x93, 0xff, 0x41, 0x80, 0xbf, 0x42)))
        assertEquals("\ufffd\ufffd\ufffd\ufffdA", Utf8.decode(bytes(0xe1, 0x80, 0xe2, 0xf0, 0x91, 0x92, 0xf1, 0xbf, 0x41)))
        assertEquals("\ufffd", Utf8.decode(bytes(0xf0, 0x9f, 0x98)))
    }

    @Test fun strictlyNothingIsReplaced() {
        assertNull(Utf8.decodeStrictly(bytes(0x41, 0xe2, 0x82)))
        assertNull(Utf8.decodeStrictly(bytes(0x80)))
    }

    @Test fun loneSurrogatesAreReplacedAndPairsAreNot() = assertEquals("a\ufffd😀\ufffd", Utf8.withoutLoneSurrogates("a\udc00😀\ud83d"))
}
