package dev.firsttoken.demo.engine

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Test

class ExecuTorchEngineTest {
    @Test fun theCallsAreThoseOfPythonsRunner() = same("executorch-xnnpack")

    @Test fun theCallsWithConvolutionsAreThoseOfPythonsRunner() = same("convolution-pte")

    private fun same(target: String) {
        val recorded = Recorded(target)
        val program = object : ExecuTorchProgram {
            override fun forward(tokens: LongArray, cachePosition: LongArray): FloatArray {
                val inputs = mapOf(
                    "tokens" to (intArrayOf(1, tokens.size) to longs(tokens)),
                    "cache_position" to (intArrayOf(cachePosition.size) to longs(cachePosition)),
                )
                val bytes = ByteArray(4 * recorded.manifest.checkpoint.vocabularySize)
                recorded.read(recorded.call("forward", inputs)["logits"].asJsonObject, bytes)
                return FloatArray(bytes.size / 4).also { ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()).asFloatBuffer().get(it) }
            }

            override fun close() = Unit
        }
        recorded.replay(ExecuTorchEngine(recorded.manifest, program))
    }

    private fun longs(values: LongArray): ByteArray = ByteBuffer.allocate(8 * values.size).order(ByteOrder.nativeOrder()).also { it.asLongBuffer().put(values) }.array()
}
