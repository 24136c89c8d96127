package dev.firsttoken.core.json

import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.holding
import org.junit.Assert.assertEquals
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class JsonTextTest {
    @get:Rule val folder = TemporaryFolder()

    private fun read(text: String) = JsonText.readObject(folder.newFile("a.json").holding(text), 100, "a thing")

    @Test fun readsAnObject() = assertEquals(1, read("""{"a": 1}""")["a"].asInt)

    @Test fun damagedTextIsOneSentence() {
        for ((text, part) in listOf("{\"a\": 1" to "ends too early", "" to "ends too early", "{\"a\": 1}x" to "not valid JSON", "{a: 1}" to "not valid JSON", "[1]" to "a list", "{'a': NaN}" to "not valid JSON")) {
            folder.root.listFiles()!!.forEach { it.delete() }
            assertRefused("a.json", part) { read(text) }
        }
    }

    @Test fun otherBytesThanUtf8AreRefused() {
        val file = folder.newFile("b.json").apply { writeBytes(byteArrayOf('{'.code.toByte(), '"'.code.toByte(), 0xff.toByte(), '"'.code.toByte(), ':'.code.toByte(), '1'.code.toByte(), '}'.code.toByte())) }
        assertRefused("b.json", "UTF-8") { JsonText.readObject(file, 100, "a thing") }
    }

    @Test fun aFileThatIsMissingOrTooLargeIsRefused() {
        assertRefused("c.json", "missing", "a thing") { JsonText.readObject(folder.root.resolve("c.json"), 100, "a thing") }
        assertRefused("101 bytes", "at most 100") { read(" ".repeat(101)) }
    }

    @Test fun deepNestingIsRefusedAndNotACrash() = assertRefused("a.json") { JsonText.readObject(folder.newFile("a.json").holding("{\"a\":" + "[".repeat(100_000)), 1 shl 20, "a thing") }
}
