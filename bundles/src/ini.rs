//! ini
