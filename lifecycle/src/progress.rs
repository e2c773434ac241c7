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
    /// How far the step under way is: only worth something to who looks at it now.
    fn update(&mut self, _detail: &str) {}
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _step: &str, _detail: &str) {}
    fn end(&mut self, _ok: bool, _detail: &str) {}
    fn note(&mut self, _line: &str) {}
}

/// Watches the steps of a part as one step of the whole.
pub(crate) struct Unstepped<'a> {
    inner: &'a mut dyn Progress,
    /// What the last step with something to tell came to.
    last: String,
}

impl<'a> Unstepped<'a> {
    pub(crate) fn of(inner: &'a mut dyn Progress) -> Unstepped<'a> {
        Unstepped {
            inner,
            last: String::new(),
        }
    }

    /// `whole`, and what the steps came to.
    pub(crate) fn answers(&self, whole: &str) -> String {
        match self.last.as_str() {
            "" => whole.to_owned(),
            last => format!("{whole}, {last}"),
        }
    }
}

impl Progress for Unstepped<'_> {
    fn begin(&mut self, _step: &str, _detail: &str) {}
    fn end(&mut self, _ok: bool, detail: &str) {
        if !detail.is_empty() {
            detail.clone_into(&mut self.last);
        }
    }
    fn note(&mut self, line: &str) {
        self.inner.note(line);
    }
}
