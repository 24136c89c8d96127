package dev.firsttoken.core.measure

import com.google.gson.JsonParser
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Proof
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.core.json.JsonText
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class MeasurementTest {
    private fun full(): Measurement {
        val conditions = Conditions("2026-01-01T00:00:00+00:00", 1, mapOf("cpu" to 41.5, "broken" to Double.NaN), 80.0, false, listOf("schedutil"), 1L shl 32)
        val stages = Stages(1, 2, 3, 4, 5, 6)
        val run = Run(32, "warm", "cached", 1.25, stages, Decode(31, 5_000_000_000), 1L shl 33, 55.5, 2, 0.25, 3, 20, 9_000_000_000)
        val bundle = BundleIdentity("b", "c", "f", "p", "t", "tflite", "xnnpack", "0".repeat(64), 5_000_000_000, 64, Proof(1e-5, 0.002, 0.99, true))
        val result = Result(bundle, "LiteRT \"1\"\u2028\n", 4, true, conditions, conditions, listOf(run), listOf(Failure("prefill", "é 日 😀", 128, "warm"), Failure("load", "m")), RanArtifact("npu", "1".repeat(64), 6_000_000_000, "SM8650", null, Proof(2e-5, 0.003, 0.98, true)), RunnerInUse(RunnerInUse.JAVA, "no library"))
        return Measurement(Writer("app", "1"), Device("phone", "m", "Android 14", Cpu("c", 8, listOf("i8mm"), mapOf("2841600" to 1)), 8L shl 30, "maker", "SM8650", "v75", "abcd"), listOf(result))
    }

    @Test fun whatIsWrittenIsReadBackTheSame() {
        val text = MeasurementText.of(full())
        val again = MeasurementText.of(MeasurementReader.parse(JsonText.parseObject(text, "t"), "t"))
        assertEquals(JsonParser.parseString(text), JsonParser.parseString(again))
        assertEquals(21, full().results[0].runs[0].stages.firstToken)
        assertTrue("what is not a number is left out", "broken" !in text)
    }

    @Test fun whatIsAbsentIsNotWritten() {
        val result = with(full().results[0]) { Result(bundle, runtimeVersion, threads, chat, Conditions("now"), null, listOf(Run(1, "cold", "unknown", 0.0, Stages(null, 1, 2, 3, 4, null))), emptyList()) }
        val text = MeasurementText.of(Measurement(Writer("w", "1"), Device("phone", "m", "s", Cpu("c", 1), 1), listOf(result)))
        for (name in listOf("null", "after", "load", "render", "decode\"", "soc", "thermal_status", "artifact\"", "runner")) assertTrue("$name in $text", name !in text)
    }

    @Test fun anotherVersionAndAnotherShapeAreRefused() {
        assertRefused("schema version 2", "reads 1") { MeasurementReader.parse(JsonText.parseObject("""{"schema_version": 2}""", "t"), "t") }
        val text = MeasurementText.of(full())
        assertRefused("results[0].runs[0].state is 'hot'") { MeasurementReader.parse(JsonText.parseObject(text.replaceFirst("\"warm\"", "\"hot\""), "t"), "t") }
    }

    @Test fun pythonReadsIt() {
        // tests/android/test_core.py reads every file of this folder with the Python schema
        MeasurementText.write(full(), File(Parity.folder().resolve("written").apply { mkdirs() }, "full.json"))
    }
}
