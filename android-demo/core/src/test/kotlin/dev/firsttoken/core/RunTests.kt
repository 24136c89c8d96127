package dev.firsttoken.core

import org.junit.runner.Description
import org.junit.runner.JUnitCore
import org.junit.runner.Request
import org.junit.runner.manipulation.Filter
import org.junit.runner.notification.Failure
import org.junit.runner.notification.RunListener
import java.io.File
import java.lang.reflect.Modifier
import kotlin.system.exitProcess

/** Runs every test class beside this one (or in the folder that `firsttoken.tests` names) and ends with the line "N passed, M failed"; what is skipped is named. */
fun main() {
    val folder = System.getProperty("firsttoken.tests")?.let(::File) ?: File(Parity::class.java.protectionDomain.codeSource.location.toURI())
    val only = System.getProperty("firsttoken.only").orEmpty()
    val classes = folder.walk().filter { it.name.endsWith("Test.class") }.map { it.relativeTo(folder).path.removeSuffix(".class").replace(File.separatorChar, '.') }
        .filter { it.substringAfterLast('.').contains(only) }.sorted().map { Class.forName(it) }
        .filter { !Modifier.isAbstract(it.modifiers) }.toList()
    if (classes.isEmpty()) {
        println("no test class has '$only' in its name")
        exitProcess(1)
    }
    val counts = Counts()
    JUnitCore().apply { addListener(counts) }.run(Request.classes(*classes.toTypedArray()).filterWith(Filter.ALL))
    counts.skipped.groupBy({ it.second }, { it.first }).forEach { (reason, names) -> println("SKIPPED ${names.size}: $reason") }
    println("${counts.passed} passed, ${counts.failed.size} failed" + if (counts.skipped.isEmpty()) "" else ", ${counts.skipped.size} skipped")
    exitProcess(if (counts.failed.isEmpty() && counts.passed > 0) 0 else 1)
}

private class Counts : RunListener() {
    val failed = HashSet<Description>()
    val skipped = ArrayList<Pair<Description, String>>()
    private val ended = HashSet<Description>()
    val passed: Int get() = ended.size - failed.count { it in ended } - skipped.size

    override fun testFailure(failure: Failure) {
        failed += failure.description
        println("FAILED ${failure.description.displayName}: ${failure.exception}")
        failure.exception.stackTrace.filter { it.className.startsWith("dev.firsttoken") }.take(6).forEach { println("    at $it") }
    }

    override fun testAssumptionFailure(failure: Failure) {
        skipped += failure.description to failure.message
    }

    override fun testFinished(description: Description) {
        ended += description
    }
}
