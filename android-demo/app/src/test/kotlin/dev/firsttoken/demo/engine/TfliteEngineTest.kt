package dev.firsttoken.demo.engine

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class TfliteEngineTest {
    /** Answers with what LiteRT answered when Python passed the same. */
    private class RecordedProgram(private val recorded: Recorded) : TfliteProgram {
        var closed = false

        override fun run(signature: String, inputs: Map<String, HostTensor>, outputs: Map<String, HostTensor>) {
            val answers = recorded.call(signature, inputs.mapValues { (_, tensor) -> tensor.shape to bytes(tensor) })
            assertEquals(answers.keySet(), outputs.keys)
            for ((name, tensor) in outputs) {
                val answer = answers[name].asJsonObject
                assertEquals("shape of $name", answer["shape"].asJsonArray.map { it.asInt }, tensor.shape.toList())
                val read = ByteArray(tensor.data.capacity()).also { recorded.read(answer, it) }
                tensor.data.rewound().put(read)
            }
        }

        override fun close() {
            closed = true
        }

        private fun bytes(tensor: HostTensor) = ByteArray(tensor.data.capacity()).also { tensor.data.rewound().get(it) }
    }

    @Test fun theCallsAreThoseOfPythonsRunner() = same("tflite-compat")

    @Test fun theCallsWithAFloat16CacheAreThoseOfPythonsRunner() = same("tflite-xnnpack")

    @Test fun theCallsWhereEachLayerHasATypeOfItsOwnAreThoseOfPythonsRunner() = same("mixed")

    private fun same(target: String) {
        val recorded = Recorded(target)
        val program = RecordedProgram(recorded)
        val engine = TfliteEngine(recorded.manifest, program)
        recorded.replay(engine)
        engine.close()
        assertTrue(program.closed)
    }

    @Test fun nestedArraysHoldTheSameValues() {
        val tensor = HostTensor(Element.FLOAT32, intArrayOf(2, 1, 3)).also { it.putFloats(floatArrayOf(1f, 2f, 3f, 4f, 5f, 6f)) }
        @Suppress("UNCHECKED_CAST")
        val nested = tensor.nested() as Array<Array<FloatArray>>
        assertArrayEquals(floatArrayOf(1f, 2f, 3f), nested[0][0], 0f)
        assertArrayEquals(floatArrayOf(4f, 5f, 6f), nested[1][0], 0f)
        assertArrayEquals(intArrayOf(7, 8), HostTensor(Element.INT32, intArrayOf(2)).also { it.putInts(intArrayOf(7, 8)) }.nested() as IntArray)
    }
}
