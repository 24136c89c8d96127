package dev.firsttoken.core.json

import dev.firsttoken.core.assertRefused
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class JsonFieldsTest {
    private fun <T> read(text: String, block: JsonFields.() -> T) = JsonFields.read("file", JsonText.parseObject(text, "file"), read = block)

    @Test fun whatIsThereIsRead() {
        assertEquals(5_000_000_000, read("""{"a": 5000000000}""") { long("a") })
        assertEquals(0.5, read("""{"a": 0.5}""") { number("a") }, 0.0)
        assertEquals(listOf("1", "n"), read("""{"a": [1, "n"]}""") { dimensions("a") })
        assertNull(read("""{"a": null}""") { intOrNull("a") })
        assertNull(read("{}") { intOrNull("a") })
    }

    @Test fun anotherTypeIsNamed() {
        assertRefused("file: a is 'x'", "one of y, z") { read("""{"a": "x"}""") { choice("a", "y", "z") } }
        assertRefused("a is \"1\"", "whole number") { read("""{"a": "1"}""") { int("a") } }
        assertRefused("a is 1.5", "whole number") { read("""{"a": 1.5}""") { int("a") } }
        assertRefused("a is true", "text") { read("""{"a": true}""") { text("a") } }
        assertRefused("a is missing") { read("{}") { text("a") } }
        assertRefused("a is 17", "from 1 to 16") { read("""{"a": 17}""") { int("a", 1..16) } }
        assertRefused("a is 99999999999999999999") { read("""{"a": 99999999999999999999}""") { long("a") } }
        assertRefused("a is 1e999") { read("""{"a": 1e999}""") { number("a") } }
    }

    @Test fun aFieldThatNobodyAskedForIsNamedWithItsPlace() =
        assertRefused("file: a[1].z is not known", "expected only y") { read("""{"a": [{"y": 1}, {"y": 2, "z": 3}]}""") { objects("a") { int("y") } } }
}
