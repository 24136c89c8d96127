"""Measuring on Android phones over adb: `firsttoken device`.

``android-demo/PROTOCOL.md`` says how this package and the app talk. Everything that a device prints or writes is
untrusted input: parsed by pure functions, bounded in size, and never put into a command unquoted.
"""

PACKAGE = "dev.firsttoken.demo"
ACTIVITY = f"{PACKAGE}/.BenchmarkActivity"
ACTION = f"{PACKAGE}.BENCHMARK"
STAGING = "/data/local/tmp/firsttoken"
MEDIA = f"/sdcard/Android/media/{PACKAGE}"
PROTOCOL = 1
OLDEST_SDK = 26  # Android 8
