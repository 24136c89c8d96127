package dev.firsttoken.core

import java.io.File
import org.junit.Assert.fail

/** Runs [block], which must raise a [FirstTokenException] whose message holds every one of [parts]. */
fun assertRefused(vararg parts: String, block: () -> Unit) {
    val message = try {
        block()
        return fail("nothing was refused; expected a message with ${parts.joinToString()}")
    } catch (refusal: FirstTokenException) {
        refusal.message.orEmpty()
    }
    for (part in parts) if (part !in message) fail("'$message' does not say '$part'")
    if ('\n' in message) fail("'$message' is more than a line")
}

fun File.holding(text: String): File = apply { writeText(text) }
