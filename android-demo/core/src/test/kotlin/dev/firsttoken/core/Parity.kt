package dev.firsttoken.core

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import org.junit.Assume
import java.io.File

/** What tests/android/parity.py has made; tests that need it are skipped, with the reason, where it was not given. */
object Parity {
    fun folder(): File {
        val given = System.getProperty("firsttoken.parity")
        Assume.assumeTrue("needs what Python makes; run .venv/bin/pytest tests/android, or tests/android/parity.py and --parity", given != null)
        return File(given!!)
    }

    fun cases(file: File): List<JsonObject> = file.readLines().map { JsonParser.parseString(it).asJsonObject }
}
