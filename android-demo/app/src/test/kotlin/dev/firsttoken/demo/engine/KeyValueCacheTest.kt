package dev.firsttoken.demo.engine

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertEquals
import org.junit.Test

class KeyValueCacheTest {
    private val manifest = Recorded("tflite-compat").manifest

    /** Returns for every call rows of bytes that no other call returns, and notes which memory each signature was given. */
    private inner class MarkingProgram(override val keepsOlder: Boolean = false) : TfliteProgram {
        val prepared = ArrayList<String>()
        private val inputs = HashMap<String, Pair<Map<String, TensorShape>, Map<String, ByteBuffer>>>()
        private val outputs = HashMap<String, Map<String, TensorShape>>()
        private var calls = 0

        override fun prepare(signature: String, inputs: Map<String, TensorShape>, outputs: Map<String, TensorShape>): Map<String, ByteBuffer> {
            this.outputs[signature] = outputs
            this.inputs[signature]?.let { (shapes, memory) -> if (shapes == inputs) return memory else if (!keepsOlder) memory.values.forEach { fill(it, SPOILT) } }
            prepared += signature
            return inputs.mapValues { fill(buffer(it.value), SPOILT) }.also { this.inputs[signature] = inputs to it }
        }

        override fun invoke(signature: String) {
            calls++
        }

        override fun output(signature: String, name: String): ByteBuffer = fill(buffer(outputs.getValue(signature).getValue(name)), calls.toByte())

        override fun close() = Unit

        /** Of which call each row of the first layer's keys is that a decode step sees, in every block; 0: no call has filled it. */
        fun rows(): List<Byte> {
            val (shapes, memory) = inputs.getValue("decode")
            val state = manifest.cpu.states.first()
            val rows = shapes.getValue(state.tensors.first()).dimensions[state.axis]
            val bytes = memory.getValue(state.tensors.first()).rewound()
            val size = bytes.capacity() / state.blocks / rows
            val blocks = (0 until state.blocks).map { block -> (0 until rows).map { row -> whole(bytes, (block * rows + row) * size, size) } }
            return blocks.distinct().single()
        }

        private fun whole(bytes: ByteBuffer, start: Int, size: Int): Byte = (start until start + size).map { bytes.get(it) }.distinct().single()

        private fun buffer(shape: TensorShape) = ByteBuffer.allocateDirect(shape.bytes).order(ByteOrder.nativeOrder())

        private fun fill(memory: ByteBuffer, value: Byte) = memory.also { it.rewound().put(ByteArray(it.capacity()) { value }) }
    }

    private fun expected(vararg counts: Int, rows: Int): List<Byte> =
        counts.flatMapIndexed { call, count -> List(count) { (call + 1).toByte() } }.let { it + List(rows - it.size) { 0.toByte() } }

    @Test fun whereOlderMemoryLivesOnAGrowingCacheIsCopiedOnce() {
        val program = MarkingProgram(keepsOlder = true)
        val engine = TfliteEngine(manifest, program)
        engine.prefill(IntArray(250))
        repeat(10) { engine.decode(0) }
        assertEquals("no other signature's inputs hold the rows meanwhile", listOf("first", "decode", "decode"), program.prepared)
        assertEquals(expected(250, *IntArray(10) { 1 }, rows = 512), program.rows())
    }

    @Test fun aPromptOfSeveralChunksMakesRoomOnce() {
        val program = MarkingProgram()
        val engine = TfliteEngine(manifest, program)
        engine.prefill(IntArray(1000))
        assertEquals(listOf("first", "decode", "extend", "extend", "extend"), program.prepared)
        assertEquals(expected(256, 256, 256, 232, rows = 1024), program.rows())
    }

    @Test fun theNextTurnsPromptMakesRoomOnceAndKeepsWhatIsThere() {
        val program = MarkingProgram()
        val engine = TfliteEngine(manifest, program)
        engine.prefill(IntArray(200))
        engine.decode(1)
        program.prepared.clear()
        engine.prefill(IntArray(600))
        assertEquals(listOf("extend", "decode", "extend", "extend"), program.prepared)
        assertEquals(expected(200, 1, 256, 256, 88, rows = 1024), program.rows())
    }

    @Test fun whatIsFilledOutlivesAGrowthWhileDecoding() {
        val program = MarkingProgram()
        val engine = TfliteEngine(manifest, program)
        engine.prefill(IntArray(255))
        assertEquals(expected(255, rows = 256), program.rows())
        engine.decode(1)
        program.prepared.clear()
        engine.decode(2)
        assertEquals("the rows wait in another signature's memory", listOf("extend", "decode"), program.prepared)
        assertEquals(expected(255, 1, 1, rows = 512), program.rows())
        engine.reset()
        assertEquals(expected(rows = 512), program.rows())
    }

    private companion object {
        const val SPOILT: Byte = 0x5a
    }
}
