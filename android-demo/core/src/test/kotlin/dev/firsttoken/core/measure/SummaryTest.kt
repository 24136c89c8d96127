package dev.firsttoken.core.measure

import dev.firsttoken.core.Parity
import java.io.File
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class SummaryTest {
    private fun assertClose(what: String, expected: Double, got: Double) = assertTrue("$what: expected $expected, got $got", abs(got - expected) <= 1e-12 * maxOf(1.0, abs(expected)))

    @Test fun givesPythonsFiguresForTheSameRuns() {
        var compared = 0
        for (case in Parity.cases(File(Parity.folder(), "measurements.jsonl"))) {
            val result = MeasurementReader.parse(case["measurement"].asJsonObject, "case").results.single()
            val groups = RunSummary.groups(result)
            assertEquals(case["groups"].asJsonArray.map { it.asJsonObject["tokens"].asInt to it.asJsonObject["state"].asString }, groups.keys.toList())
            for ((expected, runs) in case["groups"].asJsonArray.map { it.asJsonObject }.zip(groups.values)) {
                val found = RunSummary.of(runs)
                val flat = mapOf("first_token" to found.firstToken, "decode_speed" to found.decodeSpeed, "peak_memory" to found.peakMemory).filterValues { it != null } + found.stages
                val figures = expected["figures"].asJsonObject
                assertEquals(figures.keySet(), flat.keys)
                for ((name, summary) in flat) {
                    val wanted = figures[name].asJsonObject
                    assertEquals(wanted["count"].asInt, summary!!.count)
                    val values = mapOf("median" to summary.median, "minimum" to summary.minimum, "maximum" to summary.maximum, "p90" to summary.p90, "mean" to summary.mean)
                    for ((figure, value) in values) assertClose("$name $figure", wanted[figure].asDouble, value)
                    if (wanted["deviation"].isJsonNull) assertNull(summary.deviation) else assertClose("$name deviation", wanted["deviation"].asDouble, summary.deviation!!)
                    compared++
                }
                val middle = RunSummary.middleStages(runs)
                assertEquals(expected["middle"].asJsonObject.keySet(), middle.keys)
                for ((stage, value) in middle) assertClose("middle $stage", expected["middle"].asJsonObject[stage].asDouble, value)
            }
        }
        assertTrue("$compared figures", compared > 50)
    }

    @Test fun figuresOfFewValues() {
        assertNull(Summary.of(listOf(null)))
        assertEquals(0, RunSummary.middleStages(emptyList()).size)
        val two = Summary.of(listOf(3, null, 1))!!
        assertEquals(2.0, two.median, 0.0)
        assertEquals(2.8, two.p90, 1e-15)
        assertNull(Summary.of(listOf(3))!!.deviation)
    }
}
