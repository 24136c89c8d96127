package dev.firsttoken.demo

import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.demo.engine.NativeRunner
import dev.firsttoken.demo.engine.PlayedCpu
import dev.firsttoken.demo.engine.PlayedGpu
import dev.firsttoken.demo.engine.RuntimeEngines
import dev.firsttoken.demo.engine.TfliteBuild
import dev.firsttoken.demo.engine.TfliteRuntime
import dev.firsttoken.demo.view.StageText
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.RuntimeEnvironment

/** What screens and measurements say of how LiteRT was called on the CPU. */
class NativeScreensTest : ArtifactScreensTest() {
    private fun phone(native: NativeRunner) {
        val bundle = File(TestWorld.staging, "bundles/${TestWorld.FIRST}")
        if (!bundle.exists()) PlayedGpu.bundle().copyRecursively(bundle)
        TestWorld.otherEngines = RuntimeEngines(listOf(TfliteRuntime(TfliteBuild(isLiteRt = true, "2.3.0"), load = { _, _, _ -> PlayedCpu() }, native = native)))
    }

    private fun stagesOfAnAnswer(): String {
        answered()
        val turn = services.answers.state.turn!!
        return StageText.figures(RuntimeEnvironment.getApplication(), turn.stages!!, turn).toString()
    }

    @Test fun anAnswersStagesSayThatTheNativeOneRan() {
        phone(NativeRunner({ null }) { _, _, _ -> PlayedCpu() })
        assertTrue("Native runner: LiteRT’s C API" in stagesOfAnAnswer())
    }

    @Test fun orWhyNotTheNativeOne() {
        phone(NativeRunner({ "no libLiteRt.so" }) { _, _, _ -> error("it is not asked") })
        assertTrue("Java runner, not the native one: no libLiteRt.so." in stagesOfAnAnswer())
    }

    @Test fun measurementsAndResultsSayItToo() {
        phone(NativeRunner({ null }) { _, _, _ -> PlayedCpu() })
        assertEquals(RunnerInUse(RunnerInUse.NATIVE), measured("4e".repeat(16), "cpu").runner)
        assertTrue("native runner" in shown("4e".repeat(16)))
        phone(NativeRunner({ "no libLiteRt.so" }) { _, _, _ -> error("it is not asked") })
        assertEquals(RunnerInUse(RunnerInUse.JAVA, "no libLiteRt.so"), measured("5e".repeat(16), "cpu").runner)
        val said = shown("5e".repeat(16))
        assertTrue(said, "java runner" in said && "was not run by the native runner: no libLiteRt.so." in said)
    }
}
