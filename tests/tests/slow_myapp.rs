//! The whole road of a real application.
