//! The real functions: what this library stands in front of, `dlsym(3)` with `RTLD_NEXT`.
//!
//! Each is looked up once, all of them before the program begins, so that none is looked up in a
//! signal handler later.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{FILE, sockaddr, socklen_t};

use crate::sys;

/// A function of the libraries behind this one.
struct Symbol {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Symbol {
    const fn new(name: &'static CStr) -> Self {
        Symbol {
            name,
            address: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Null if there is no such function.
    fn address(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string, and RTLD_NEXT needs nothing else.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// One caller for each, with the signature of its manual page; `-1` and `ENOSYS` where the C library
/// has no such function.
macro_rules! real {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        #[expect(non_upper_case_globals, reason = "they are called as the functions are")]
        mod found {
            $(
                pub(super) static $name: super::Symbol = super::Symbol::new(
                    match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a name without a zero"),
                    },
                );
            )*
        }

        $(
            /// The function of that name.
            ///
            /// # Safety
            /// As its manual page says.
            pub(crate) unsafe fn $name($($arg: $type),*) -> $result {
                let address = found::$name.address();
                if address.is_null() {
                    sys::set_errno(libc::ENOSYS);
                    return -1;
                }
                // "C-unwind": `pthread_cancel(3)` unwinds out of some of these. Those with an
                // ellipsis find their arguments where they would be without one, see the ABI of
                // x86-64 and of AArch64.
                // SAFETY: this is the signature of the function in the C library.
                let real = unsafe {
                    mem::transmute::<*mut c_void, unsafe extern "C-unwind" fn($($type),*) -> $result>(address)
                };
                // SAFETY: the arguments are the caller's.
                unsafe { real($($arg),*) }
            }
        )*

        /// Looks all of them up.
        pub(crate) fn find_all() {
            $(found::$name.address();)*
        }
    };
}

real! {
    accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int;
    bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    close(fd: c_int) -> c_int;
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int;
    connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    dup(fd: c_int) -> c_int;
    dup2(fd: c_int, other: c_int) -> c_int;
    dup3(fd: c_int, other: c_int, flags: c_int) -> c_int;
    epoll_create(size: c_int) -> c_int;
    epoll_create1(flags: c_int) -> c_int;
    fclose(file: *mut FILE) -> c_int;
    fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int;
    fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int;
    getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int;
    ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int;
    listen(fd: c_int, backlog: c_int) -> c_int;
    remove(path: *const c_char) -> c_int;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int;
    shutdown(fd: c_int, how: c_int) -> c_int;
    syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long;
    unlink(path: *const c_char) -> c_int;
    unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int;
}
