package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.holding
import org.junit.Assert.assertEquals
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class TextStreamTest {
    @get:Rule val folder = TemporaryFolder()

    /** Every byte is a token, whose id is the byte; 256 is special. */
    private val tokenizer by lazy {
        val vocabulary = (0..255).joinToString { "\"${ByteLevelAlphabet.character(it).toString().replace("\\", "\\\\").replace("\"", "\\\"")}\": $it" }
        val special = """{"id": 256, "content": "<end>", "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false}"""
        val byteLevel = """{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}"""
        Tokenizer.read(folder.newFile().holding("""{"added_tokens": [$special], "pre_tokenizer": $byteLevel, "decoder": $byteLevel, "model": {"vocab": {$vocabulary}, "merges": []}}"""))
    }

    private fun pieces(vararg bytes: Int) = TextStream(tokenizer).let { stream -> bytes.map(stream::add) + stream.finish() }

    @Test fun aCharacterComesWhole() = assertEquals(listOf("a", "", "", "", "😀", "b", ""), pieces(0x61, 0xf0, 0x9f, 0x98, 0x80, 0x62))

    @Test fun aCharacterThatNeverEndsComesOutAtTheEnd() = assertEquals(listOf("a", "", "", "\ufffd"), pieces(0x61, 0xf0, 0x9f))

    @Test fun bytesThatAreNoTextDoNotHoldBackForEver() = assertEquals("\ufffd".repeat(6) + "a", pieces(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x61).joinToString(""))

    @Test fun specialTokensAreSilent() = assertEquals(listOf("a", "", "b", ""), pieces(0x61, 256, 0x62))
}
