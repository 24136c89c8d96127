package dev.firsttoken.demo.phone

/** The phone's cores, 4 at most: the slow cores of a phone hold the fast ones up. */
fun defaultThreads(): Int = Runtime.getRuntime().availableProcessors().coerceIn(1, 4)
