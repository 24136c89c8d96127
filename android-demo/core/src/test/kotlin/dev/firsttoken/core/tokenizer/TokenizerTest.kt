package dev.firsttoken.core.tokenizer

import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.holding
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** What is refused, by name, and the choices that a file makes; the tokens themselves are TokenizerParityTest's. */
class TokenizerTest {
    @get:Rule val folder = TemporaryFolder()

    private fun read(
        model: String = """"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]""",
        added: String = "[]",
        normalizer: String = "null",
        preTokenizer: String = "null",
        decoder: String = """{"type": "Fuse"}""",
        begin: Int? = null,
        special: Map<String, Int>? = null,
    ): Tokenizer {
        val text = """{"added_tokens": $added, "normalizer": $normalizer, "pre_tokenizer": $preTokenizer, "decoder": $decoder, "model": {$model}}"""
        folder.root.listFiles()!!.forEach { it.delete() }
        return Tokenizer.read(folder.newFile(TOKENIZER_FILE).holding(text), begin, special)
    }

    private fun token(id: Int, content: String) = """{"id": $id, "content": "$content", "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false}"""

    @Test fun otherKindsAreRefusedByName() {
        assertRefused("model 'Unigram'", "expected BPE") { read(model = """"type": "Unigram", "vocab": [["a", 0.0]]""") }
        assertRefused("model 'WordPiece'") { read(model = """"type": "WordPiece", "vocab": {"a": 0}""") }
        assertRefused("normalizer 'BertNormalizer'") { read(normalizer = """{"type": "BertNormalizer"}""") }
        assertRefused("normalizer 'Precompiled'") { read(normalizer = """{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Precompiled"}]}""") }
        assertRefused("pre_tokenizer 'Whitespace'") { read(preTokenizer = """{"type": "Whitespace"}""") }
        assertRefused("decoder 'WordPiece'") { read(decoder = """{"type": "WordPiece"}""") }
        assertRefused("has no decoder") { read(decoder = "null") }
        assertRefused("end_of_word_suffix '</w>'") { read(model = """"vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"""") }
        assertRefused("dropout 0.1") { read(model = """"vocab": {"a": 0}, "merges": [], "dropout": 0.1""") }
        assertRefused("not the last") { read(preTokenizer = """{"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false}, {"type": "Digits", "individual_digits": true}]}""") }
    }

    @Test fun damagedFilesSayWhatIsWrong() {
        assertRefused("same id 0") { read(model = """"vocab": {"a": 0, "b": 0}, "merges": []""") }
        assertRefused("merge of 'a' and 'c'") { read(model = """"vocab": {"a": 0, "b": 1}, "merges": ["a c"]""") }
        assertRefused("merge of 'ab'") { read(model = """"vocab": {"a": 0, "b": 1}, "merges": ["ab"]""") }
        assertRefused("has no vocabulary") { read(model = """"type": "BPE"""") }
        assertRefused("has id -1") { read(model = """"vocab": {"a": -1}, "merges": []""") }
        assertRefused("not valid JSON") { read(model = """"vocab": {"a": "x"}, "merges": []""") }
        assertRefused("ids 0 and 7") { read(added = "[${token(7, "a")}]") }
        assertRefused("unk_token '<unk>'") { read(model = """"vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"""") }
        assertRefused("begin token 9") { read(begin = 9) }
    }

    @Test fun mergesMayStandBeforeTheVocabulary() =
        assertArrayEquals(intArrayOf(2, 0), read(model = """"merges": ["a b"], "vocab": {"a": 0, "b": 1, "ab": 2}""").encode("aba"))

    @Test fun theManifestSaysWhichTokensAreSpecial() {
        val model = """"vocab": {"a": 0, "b": 1, "<x>": 2}, "merges": []"""
        val tokenizer = read(model, added = "[${token(3, "<s>")}]", special = mapOf("<x>" to 2))
        assertEquals("<s>a", tokenizer.decode(intArrayOf(3, 2, 0)))
        assertEquals(listOf(false, true), listOf(3, 2).map(tokenizer::isSpecial))
        assertEquals("a", read(model, added = "[${token(3, "<s>")}]").decode(intArrayOf(3, 0)))
        assertRefused("special token '<x>' as 1, but tokenizer.json has it as token 2") { read(model, special = mapOf("<x>" to 1)) }
        assertRefused("special token '<y>' as 1, but tokenizer.json has no such token") { read(model, special = mapOf("<y>" to 1)) }
    }

    @Test fun theBeginTokenComesFirstUnlessToldOtherwise() {
        val tokenizer = read(added = "[${token(3, "<s>")}]", begin = 3)
        assertArrayEquals(intArrayOf(3, 2), tokenizer.encode("ab"))
        assertArrayEquals(intArrayOf(2), tokenizer.encode("ab", withBegin = false))
        assertArrayEquals(intArrayOf(2, 3, 0), tokenizer.encode("ab<s>a", withBegin = false))
        assertEquals(4, tokenizer.vocabularySize)
        assertEquals("ab", tokenizer.decode(intArrayOf(3, 2)))
        assertEquals("<s>ab", tokenizer.decode(intArrayOf(3, 2), withSpecial = true))
        assertEquals("tokens that do not exist are left out", "a", tokenizer.decode(intArrayOf(-1, 0, 99)))
    }
}
