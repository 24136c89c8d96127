package dev.firsttoken.demo.engine

import dev.firsttoken.core.generate.KeptRows
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class TfliteEngineTest {
    /** Answers with what LiteRT answered when Python passed the same. New memory holds anything, as a runtime's does, and older memory is spoilt. */
    private class RecordedProgram(private val recorded: Recorded) : TfliteProgram {
        private class Prepared(val shapes: Map<String, TensorShape>, val memory: Map<String, ByteBuffer>, val outputs: Map<String, TensorShape>)

        private val prepared = HashMap<String, Prepared>()
        private var returned: Pair<String, Map<String, ByteBuffer>>? = null
        var closed = false

        override fun prepare(signature: String, inputs: Map<String, TensorShape>, outputs: Map<String, TensorShape>): Map<String, ByteBuffer> {
            val old = prepared[signature]
            if (old?.shapes == inputs) return old.memory
            old?.memory?.values?.forEach(::spoil)
            return inputs.mapValues { spoil(buffer(it.value.bytes)) }.also { prepared[signature] = Prepared(inputs, it, outputs) }
        }

        override fun invoke(signature: String) {
            val call = prepared.getValue(signature)
            val answers = recorded.call(signature, call.memory.mapValues { (name, memory) -> call.shapes.getValue(name).dimensions to bytes(memory) })
            assertEquals(answers.keySet(), call.outputs.keys)
            returned = signature to call.outputs.mapValues { (name, shape) ->
                val answer = answers[name].asJsonObject
                assertEquals("shape of $name", answer["shape"].asJsonArray.map { it.asInt }, shape.dimensions.toList())
                buffer(shape.bytes).also { it.put(ByteArray(shape.bytes).also { read -> recorded.read(answer, read) }) }
            }
        }

        override fun output(signature: String, name: String): ByteBuffer {
            val (last, outputs) = checkNotNull(returned)
            assertEquals("whose outputs are there", last, signature)
            return outputs.getValue(name)
        }

        override fun close() {
            closed = true
        }

        private fun buffer(bytes: Int) = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

        private fun spoil(memory: ByteBuffer) = memory.also { it.rewound().put(ByteArray(it.capacity()) { 0x5a }) }

        private fun bytes(memory: ByteBuffer) = ByteArray(memory.capacity()).also { memory.rewound().get(it) }
    }

    @Test fun theCallsAreThoseOfPythonsRunner() = same("tflite-compat")

    @Test fun theCallsWithAFloat16CacheAreThoseOfPythonsRunner() = same("tflite-xnnpack")

    @Test fun theCallsWhereEachLayerHasATypeOfItsOwnAreThoseOfPythonsRunner() = same("mixed")

    @Test fun theCallsOverRingsAreThoseOfPythonsRunner() = same("ring")

    @Test fun theCallsWithConvolutionsAreThoseOfPythonsRunner() = same("convolution")

    @Test fun theCallsBehindAKeptSystemPromptAreThoseOfPythonsRunner() = same("kept")

    @Test fun theCallsBehindOneKeptInIntegersAreThoseOfPythonsRunner() = same("kept-int8")

    private fun same(target: String) {
        val recorded = Recorded(target)
        val program = RecordedProgram(recorded)
        val engine = TfliteEngine(recorded.manifest, program)
        engine.kept = recorded.manifest.keptPrompt?.let { KeptRows(recorded.folder, it) }
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
