package dev.firsttoken.demo.view

import android.content.Context
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.demo.R

/** Says in a line which artifact of a bundle runs, and why not the NPU's; null for a bundle with one. */
fun artifactText(context: Context, artifact: ArtifactInUse?): String? =
    when {
        artifact == null -> null
        artifact.isNpu -> context.getString(R.string.artifact_npu)
        else -> context.getString(R.string.artifact_cpu, artifact.fallback.orEmpty())
    }
