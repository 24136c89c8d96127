"""What scripts/android_natives is made of: a phone's native libraries, run in a JVM of this machine under the app's own classes."""
