package dev.firsttoken.demo.engine

import android.content.res.Resources
import dev.firsttoken.demo.R

/** Which runtimes are in this APK: the build wrote their versions into its resources, empty where it carries none. */
object CarriedRuntimes {
    fun all(resources: Resources): List<Runtime> = listOf(TfliteRuntime(tflite(resources)), ExecuTorchRuntime(executorch(resources)))

    private fun tflite(resources: Resources): TfliteBuild? {
        val (litert, tflite) = resources.getString(R.string.litert_version) to resources.getString(R.string.tflite_version)
        return when {
            !isThere("org.tensorflow.lite.Interpreter") -> null
            litert.isNotEmpty() -> TfliteBuild(isLiteRt = true, litert)
            tflite.isNotEmpty() -> TfliteBuild(isLiteRt = false, tflite)
            else -> null
        }
    }

    private fun executorch(resources: Resources): String? =
        resources.getString(R.string.executorch_version).takeIf { it.isNotEmpty() && isThere("org.pytorch.executorch.Module") }

    private fun isThere(name: String): Boolean =
        try {
            Class.forName(name, false, CarriedRuntimes::class.java.classLoader) // its native library is not loaded yet
            true
        } catch (missing: ClassNotFoundException) {
            false
        }
}
