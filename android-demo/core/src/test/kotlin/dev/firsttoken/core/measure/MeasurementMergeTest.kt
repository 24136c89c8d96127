package dev.firsttoken.core.measure

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class MeasurementMergeTest {
    private fun identity(name: String) = BundleIdentity(name, "c", "f", "int8", "tflite-compat", "tflite", "none", "ab".repeat(32), 5, 256)

    private fun measured(name: String, time: String, at: Double, threads: Int = 4, artifact: RanArtifact? = null): Measurement {
        val run = Run(32, "cold", "unknown", at, Stages(1, 2, 3, 4, 5, 6))
        val result = Result(identity(name), "r 1", threads, true, Conditions(time), Conditions(time), listOf(run), listOf(Failure("load", "m $time")), artifact)
        return Measurement(Writer("w", "1"), Device("phone", "m", "Android 14", Cpu("c", 8), 1), listOf(result))
    }

    @Test fun runsOfOneBundleBecomeOneResultOnOneClock() {
        val made = MeasurementMerge.of(listOf(measured("a", "2026-01-01T00:00:00+00:00", 1.0), measured("b", "2026-01-01T00:00:30+00:00", 1.0), measured("a", "2026-01-01T01:01:00+01:00", 2.0)))!!
        assertEquals(listOf("a", "b"), made.results.map { it.bundle.name })
        assertEquals(listOf(1.0, 62.0), made.results[0].runs.map { it.atSeconds })
        assertEquals(2, made.results[0].failures.size)
        assertEquals("2026-01-01T01:01:00+01:00", made.results[0].after!!.time)
    }

    @Test fun otherSettingsAreAnotherResult() {
        val made = MeasurementMerge.of(listOf(measured("a", "2026-01-01T00:00:00+00:00", 1.0), measured("a", "not a time", 1.0, threads = 2), measured("a", "not a time", 3.0)))!!
        assertEquals(listOf(listOf(1.0, 3.0), listOf(1.0)), made.results.map { result -> result.runs.map { it.atSeconds } })
    }

    @Test fun theOtherArtifactIsAnotherResult() {
        fun on(kind: String, at: Double) = measured("a", "not a time", at, artifact = RanArtifact(kind, "ab".repeat(32), 7))
        val made = MeasurementMerge.of(listOf(on("npu", 1.0), on("cpu", 2.0), on("npu", 3.0)))!!
        assertEquals(listOf("npu" to listOf(1.0, 3.0), "cpu" to listOf(2.0)), made.results.map { result -> result.artifact!!.kind to result.runs.map { it.atSeconds } })
    }

    @Test fun ofNothingIsNothing() = assertNull(MeasurementMerge.of(emptyList()))
}
