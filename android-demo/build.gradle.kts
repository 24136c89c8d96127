// Versions are in gradle/libs.versions.toml, which scripts/build_apk reads too.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}
