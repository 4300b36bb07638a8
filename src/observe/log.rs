//! Logging. Loggers are arguments; there is no global one.
