package dev.firsttoken.demo.view

import android.content.Context
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.demo.R

/** Says in a line which artifact of a bundle runs, and why not the one that is to be preferred; null for a bundle with one. */
fun artifactText(context: Context, artifact: ArtifactInUse?): String? =
    artifact?.run {
        fallback?.let { context.getString(R.string.artifact_instead, processor.name, insteadOf.name, it) } ?: context.getString(R.string.artifact_on, processor.name)
    }
