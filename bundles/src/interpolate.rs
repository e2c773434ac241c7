//! interpolate
