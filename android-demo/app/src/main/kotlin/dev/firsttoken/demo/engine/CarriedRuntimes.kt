package dev.firsttoken.demo.engine

import android.content.Context
import android.content.res.Resources
import dalvik.system.BaseDexClassLoader
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.npu.NpuLayout
import dev.firsttoken.core.npu.NpuProgram
import dev.firsttoken.demo.R
import dev.firsttoken.demo.phone.socModel
import java.io.File

/** Which runtimes are in this APK: the build wrote their versions into its resources, empty where it carries none. */
object CarriedRuntimes {
    fun all(context: Context): List<Runtime> {
        val tflite = tflite(context.resources)
        return listOf(TfliteRuntime(tflite, npu = npu(context, tflite), gpu = gpu(tflite), native = native(tflite, context.cacheDir)), ExecuTorchRuntime(executorch(context.resources)))
    }

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

    private fun native(tflite: TfliteBuild?, cache: File): NativeRunner? = tflite?.let { NativeRunner.of(it, File(cache, "xnnpack")) }

    private fun npu(context: Context, tflite: TfliteBuild?): NpuSupport {
        val libraries = File(context.applicationInfo.nativeLibraryDir)
        return NpuSupport(socModel(), npuBuild(tflite, libraries)) { bundle, artifact -> load(bundle, artifact, libraries, context.cacheDir) }
    }

    /** What is missing of what each way to the NPU needs. [libraries] holds the app's native libraries where they were unpacked. */
    internal fun npuBuild(tflite: TfliteBuild?, libraries: File): NpuBuild {
        val dispatch = "libLiteRtDispatch_Qualcomm.so"
        val ahead = when {
            tflite?.isLiteRt != true -> "this app carries ${tflite?.title ?: "no LiteRT"}, and the NPU needs LiteRT 2; build it with Gradle and -Pnpu"
            !isThere("com.google.ai.edge.litert.CompiledModel") -> "this app's ${tflite.title} has no CompiledModel; build it with a newer one"
            !File(libraries, dispatch).isFile -> "this app was built without $dispatch; build it with Gradle and -Pnpu"
            else -> null
        }
        val device = when {
            tflite == null -> "this app carries no LiteRT"
            !isThere("com.qualcomm.qti.QnnDelegate") || !isThere(QNN_PROGRAM) -> "this app was built without Qualcomm's delegate, which compiles it on the phone; build it with Gradle and -Pnpu"
            else -> null
        }
        return NpuBuild(ahead, device)
    }

    private fun gpu(tflite: TfliteBuild?) = GpuSupport(gpuLack(tflite, ::isPackaged)) { bundle, artifact -> GpuModelProgram(bundle.artifact(artifact), artifact.methods) }

    /** What is missing of what the GPU needs, null where nothing is. [isPackaged] says whether the app has a native library, by its name without "lib" and ".so". */
    internal fun gpuLack(tflite: TfliteBuild?, isPackaged: (String) -> Boolean): String? =
        when {
            tflite?.isLiteRt != true -> "this app carries ${tflite?.title ?: "no LiteRT"}, and the GPU needs LiteRT 2; build it with Gradle"
            !isThere("com.google.ai.edge.litert.CompiledModel") -> "this app's ${tflite.title} has no CompiledModel; build it with a newer one"
            GPU_LIBRARIES.none(isPackaged) -> "this app was built without LiteRT's GPU accelerator (litert-gpu), or not for this phone's processor; build it with Gradle"
            else -> null
        }

    /** Unpacked or in the APK itself. */
    private fun isPackaged(library: String) = (CarriedRuntimes::class.java.classLoader as? BaseDexClassLoader)?.findLibrary(library) != null

    private fun load(bundle: Bundle, artifact: Artifact, libraries: File, cache: File): NpuProgram =
        if (NpuLayout.facts(artifact).compiled == "ahead") CompiledModelProgram(bundle.artifact(artifact), artifact.methods, libraries)
        else qnnProgram(bundle, artifact, libraries, cache)

    /** That class is only in builds with -Pnpu (src/npu). */
    private fun qnnProgram(bundle: Bundle, artifact: Artifact, libraries: File, cache: File): NpuProgram =
        try {
            Class.forName(QNN_PROGRAM).getConstructor(File::class.java, String::class.java, List::class.java, File::class.java, File::class.java)
                .newInstance(bundle.artifact(artifact), bundle.manifest.facts(artifact).sha256, artifact.methods, libraries, cache) as NpuProgram
        } catch (error: java.lang.reflect.InvocationTargetException) {
            throw error.targetException // what the delegate said
        }

    private fun isThere(name: String): Boolean =
        try {
            Class.forName(name, false, CarriedRuntimes::class.java.classLoader) // its native library is not loaded yet
            true
        } catch (missing: ClassNotFoundException) {
            false
        } catch (missing: LinkageError) { // it needs a class that is not there
            false
        }

    /** What LiteRT looks for on Android, in its order (litert/runtime/accelerators/gpu_registry.cc). */
    private val GPU_LIBRARIES = listOf("LiteRtGpuAccelerator", "LiteRtClGlAccelerator", "LiteRtOpenClAccelerator", "LiteRtWebGpuAccelerator")
    private const val QNN_PROGRAM = "dev.firsttoken.demo.engine.QnnDelegateProgram"
}
