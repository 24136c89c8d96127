package dev.firsttoken.demo.view

import android.content.Context
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.demo.R

/** Says in a line which artifact of a bundle runs, and why not the one that is to be preferred; null for a bundle with one. */
fun artifactText(context: Context, artifact: ArtifactInUse?): String? =
    artifact?.run {
        fallback?.let { context.getString(R.string.artifact_instead, processor.name, insteadOf.name, it) } ?: context.getString(R.string.artifact_on, processor.name)
    }

/** Says in a line how the runtime is called, why not the native way, and whose packed weights it reads; null where there is but one way. */
fun runnerText(context: Context, runner: RunnerInUse?): String? =
    runner?.run {
        fallback?.let { context.getString(R.string.runner_java, it) }
            ?: packedFor?.let { context.getString(R.string.runner_packed, it) }
            ?: unpacked?.let { context.getString(R.string.runner_unpacked, it) }
            ?: context.getString(R.string.runner_native)
    }
