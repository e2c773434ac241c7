//! How long steps are told about while they happen.

/// Somebody who watches. Steps do not nest: each [`begin`](Progress::begin) is followed by one
/// [`end`](Progress::end), unless an error ends everything.
pub trait Progress {
    /// A step begins: a short word (`fetch`), and on what.
    fn begin(&mut self, step: &str, detail: &str);
    /// The step has ended. An empty detail keeps that of the beginning.
    fn end(&mut self, ok: bool, detail: &str);
    /// Something worth a line of its own.
    fn note(&mut self, line: &str);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _step: &str, _detail: &str) {}
    fn end(&mut self, _ok: bool, _detail: &str) {}
    fn note(&mut self, _line: &str) {}
}
