//! Settling a launch: which Java, which war, what the limits mean for the JVM.
