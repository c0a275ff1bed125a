//! Error numbers. Header: `errno.h`.
//!
//! A hypercall that fails returns the negated number ([`Errno::code`]). Numbers that never leave a hypervisor (`EINTR`,
//! `ERESTART`) are left out.

/// Defines the enum, and the list of its variants that number lookup needs.
macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// An error that crosses the ABI. The discriminant is the positive number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Errno {
            $($(#[$doc])* $name = $number,)*
        }

        impl Errno {
            /// Every error, in the order of the numbers.
            pub const ALL: &[Errno] = &[$(Errno::$name),*];
        }
    };
}

errno! {
    /// The caller may not do this.
    EPERM = 1,
    /// There is no such object.
    ENOENT = 2,
    /// There is no such domain.
    ESRCH = 3,
    /// Input or output failed.
    EIO = 5,
    /// There is no such device or address.
    ENXIO = 6,
    /// The argument is too large.
    E2BIG = 7,
    /// The image cannot be executed.
    ENOEXEC = 8,
    /// The handle is not open.
    EBADF = 9,
    /// There is no child.
    ECHILD = 10,
    /// The call cannot be done now; it may succeed later.
    EAGAIN = 11,
    /// There is not enough memory.
    ENOMEM = 12,
    /// The object does not allow this access.
    EACCES = 13,
    /// A guest address cannot be accessed.
    EFAULT = 14,
    /// The object is in use.
    EBUSY = 16,
    /// The object exists already.
    EEXIST = 17,
    /// The two objects belong to different devices.
    EXDEV = 18,
    /// There is no such device.
    ENODEV = 19,
    /// The object is not a directory.
    ENOTDIR = 20,
    /// The object is a directory.
    EISDIR = 21,
    /// An argument is not valid.
    EINVAL = 22,
    /// The system-wide table is full.
    ENFILE = 23,
    /// The caller's table is full.
    EMFILE = 24,
    /// There is no space left.
    ENOSPC = 28,
    /// The object can only be read.
    EROFS = 30,
    /// There are too many links.
    EMLINK = 31,
    /// The argument lies outside the function's domain.
    EDOM = 33,
    /// The result does not fit.
    ERANGE = 34,
    /// Waiting would never end.
    EDEADLK = 35,
    /// The name is too long.
    ENAMETOOLONG = 36,
    /// There are no locks left.
    ENOLCK = 37,
    /// There is no such call or operation.
    ENOSYS = 38,
    /// The directory is not empty.
    ENOTEMPTY = 39,
    /// There is no data.
    ENODATA = 61,
    /// The time given has passed.
    ETIME = 62,
    /// The message is malformed.
    EBADMSG = 74,
    /// The value does not fit its type.
    EOVERFLOW = 75,
    /// The bytes are not valid text.
    EILSEQ = 84,
    /// The handle is not a socket.
    ENOTSOCK = 88,
    /// The message is too long.
    EMSGSIZE = 90,
    /// The operation is not supported here.
    EOPNOTSUPP = 95,
    /// The address is in use.
    EADDRINUSE = 98,
    /// The address is not available.
    EADDRNOTAVAIL = 99,
    /// There is no buffer space.
    ENOBUFS = 105,
    /// The two ends are connected already.
    EISCONN = 106,
    /// The two ends are not connected.
    ENOTCONN = 107,
    /// The other end did not answer in time.
    ETIMEDOUT = 110,
    /// The other end refused.
    ECONNREFUSED = 111,
}

impl Errno {
    /// The positive number.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// What a failed hypercall returns: the negated number.
    pub const fn code(self) -> i64 {
        -(self as i32 as i64)
    }

    /// The error that a hypercall's result stands for; `None` if it is not negative, or not a number of this ABI.
    pub fn from_code(code: i64) -> Option<Errno> {
        Errno::ALL.iter().copied().find(|errno| errno.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn every_code_converts_back() {
        for &errno in Errno::ALL {
            assert_eq!(Errno::from_code(errno.code()), Some(errno));
        }
        assert_eq!(Errno::from_code(0), None);
        assert_eq!(Errno::from_code(38), None);
        assert_eq!(Errno::from_code(-4095), None);
    }
}
