package dev.firsttoken.core.tokenizer

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

class BytePairEncoderTest {
    private fun encoder(tokens: List<String>, merges: List<String>, wholeWords: Boolean = false, unknown: Boolean = false): BytePairEncoder {
        val vocabulary = Vocabulary().apply { tokens.forEachIndexed { id, text -> add(text, id) } }
        val table = MergeTable()
        merges.forEachIndexed { rank, merge ->
            val (left, right) = merge.split(' ')
            table.add(vocabulary.id(left), vocabulary.id(right), rank, vocabulary.id(left + right))
        }
        return BytePairEncoder(vocabulary, table, byteLevel = false, byteFallback = false, wholeWords, if (unknown) Unknown(0, fuse = true) else null)
    }

    private fun BytePairEncoder.tokens(word: String) = IntList().also { encode(word, it) }.toArray()

    private val letters = listOf("?", "a", "b", "c", "ab", "bc", "abc", "aa")

    @Test fun lowestRankFirstThenLeftmost() {
        assertArrayEquals(intArrayOf(1, 5), encoder(letters, listOf("b c", "a b")).tokens("abc"))
        assertArrayEquals(intArrayOf(4, 3), encoder(letters, listOf("a b", "b c")).tokens("abc"))
        assertArrayEquals(intArrayOf(7, 1), encoder(letters, listOf("a a")).tokens("aaa"))
    }

    @Test fun aWordThatIsATokenIsTakenWholeWhereTheFileSaysSo() {
        assertArrayEquals(intArrayOf(4, 3), encoder(letters, listOf("a b")).tokens("abc"))
        assertArrayEquals(intArrayOf(6), encoder(letters, listOf("a b"), wholeWords = true).tokens("abc"))
    }

    @Test fun unknownCharactersFuseOrAreLeftOut() {
        assertArrayEquals(intArrayOf(1, 0, 2), encoder(letters, emptyList(), unknown = true).tokens("axyb"))
        assertArrayEquals(intArrayOf(1, 2), encoder(letters, emptyList()).tokens("axyb"))
    }

    @Test fun aLongWordTakesNoSquareOfItsLength() = assertEquals(100_000, encoder(letters, listOf("a a")).tokens("a".repeat(200_000)).size)

    @Test fun theTablesGrow() {
        val vocabulary = Vocabulary()
        val merges = MergeTable()
        for (id in 0 until 50_000) {
            vocabulary.add("token $id", id)
            merges.add(id, id + 1, id, id + 2)
        }
        for (id in 0 until 50_000) {
            assertEquals(id, vocabulary.id("token $id"))
            assertEquals(id + 2, merges.product(merges.find(id, id + 1)))
        }
        assertEquals(-1, vocabulary.id("token 50000"))
        assertEquals(-1, merges.find(1, 1))
    }
}
