//! How the program begins with the GNU C library: without what the standard library does before `main`, of which it
//! needs two things, done here. The rest (a handler and a stack of its own to tell of a stack overflow, for which
//! `/proc/self/maps` is read) takes longer than reading a configuration, at every launch.
//!
//! A room of the program, not of the library.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

/// Called by the C library. The arguments are there for `std::env` without it.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    open_standard_descriptors();
    // Who writes into a pipe that nobody reads any more gets an error. What is executed gets the default action.
    // SAFETY: SIG_IGN is no handler that could be run.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // It flushes what was printed.
    std::process::exit(c_int::from(crate::program()))
}

/// Makes sure that 0, 1 and 2 are open: a file that got one of these numbers would be printed to.
fn open_standard_descriptors() {
    for number in 0..=2 {
        // SAFETY: fcntl(2) without memory arguments; the path is a C string.
        unsafe {
            // The only error of this is EBADF. The lowest free number is this one, as those below it are open by now.
            if libc::fcntl(number, libc::F_GETFD) == -1
                && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != number
            {
                std::process::abort();
            }
        }
    }
}
