package dev.firsttoken.demo

/** The app's version; a test holds it against the manifest's. */
object BuildFacts {
    const val VERSION = "0.1.0"
}
