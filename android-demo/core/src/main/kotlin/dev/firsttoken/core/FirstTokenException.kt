package dev.firsttoken.core

/** What a user can put right: one sentence saying what was got, what was expected, and what to do next. */
class FirstTokenException(message: String) : Exception(message)
