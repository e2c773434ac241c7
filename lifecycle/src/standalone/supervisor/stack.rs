//! A thread that mostly waits keeps what it ever touched of its stack, and what the allocator has put aside for it.
//! With hundreds of them that is most of the memory of their process.

use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// The most that a turn may need of a stack. Only what it touches is memory.
const SIZE: usize = 2 << 20;

/// Does something on a stack of its own, which is given back at its end; where there can be none, on this one.
pub(super) fn apart<T: Send>(name: &str, mut work: impl FnMut() -> T + Send) -> T {
    let done = scope(|scope| {
        let thread = Builder::new().name(name.to_owned()).stack_size(SIZE);
        let thread = thread.spawn_scoped(scope, &mut work).ok()?;
        Some(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    done.unwrap_or_else(work)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread::current;

    use super::*;

    #[test]
    fn what_is_done_apart_has_its_result_and_its_panics_here() {
        let own = current().id();
        let mut count = 1;
        let other = apart("web", || {
            count += 1;
            (current().id(), current().name().map(str::to_owned))
        });
        assert!(other.0 != own && other.1.as_deref() == Some("web"));
        assert_eq!(count, 2);
        let panic = catch_unwind(AssertUnwindSafe(|| apart("web", || panic!("no"))));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"no"));
    }
}
