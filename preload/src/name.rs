//! The name of a socket as programs write and read it, `struct sockaddr`, and as frames have it.
//!
//! Pure: bytes in, bytes out. An answer is cut off where the program's room ends, as the kernel
//! does it, see `accept(2)`.

use worker_proto::address::{Address, AddressRef};

/// A `sockaddr` of any family, with its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketName {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl SocketName {
    /// What is longer than any address is cut off.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(NAME_BYTES);
        let mut name = SocketName {
            bytes: [0; NAME_BYTES],
            len,
        };
        name.bytes[..len].copy_from_slice(&bytes[..len]);
        name
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn family(&self) -> i32 {
        if self.len < FAMILY_BYTES {
            return libc::AF_UNSPEC;
        }
        i32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]))
    }

    /// The port of an Internet address.
    pub(crate) fn port(&self) -> Option<u16> {
        let is_inet = matches!(self.family(), libc::AF_INET | libc::AF_INET6);
        (is_inet && self.len >= INET_BYTES)
            .then(|| u16::from_be_bytes([self.bytes[2], self.bytes[3]]))
    }

    /// The same Internet address with another port.
    #[must_use]
    pub(crate) fn with_port(mut self, port: u16) -> Self {
        self.bytes[2..4].copy_from_slice(&port.to_be_bytes());
        self
    }

    /// As frames have it; `None` if it is too short, or of no family that they know.
    pub(crate) fn address(&self) -> Option<Address> {
        let bytes = self.bytes();
        match self.family() {
            libc::AF_INET if self.len >= INET_BYTES => Some(Address::V4 {
                ip: array(&bytes[4..8]),
                port: self.port()?,
            }),
            // Without the scope, as RFC 2133 had it, the kernel takes it, too.
            libc::AF_INET6 if self.len >= INET6_BYTES - 4 => Some(Address::V6 {
                ip: array(&bytes[8..24]),
                port: self.port()?,
                flowinfo: u32::from_be_bytes(array(&bytes[4..8])),
                scope_id: u32::from_ne_bytes(array(&self.bytes[24..28])),
            }),
            libc::AF_UNIX => Some(match &bytes[FAMILY_BYTES..] {
                [] => Address::Unnamed,
                [0, name @ ..] => Address::Abstract(name.to_vec()),
                path => {
                    let end = path.iter().position(|&byte| byte == 0);
                    Address::Path(path[..end.unwrap_or(path.len())].to_vec())
                }
            }),
            _ => None,
        }
    }

    /// Writes it where a program wants it; answers with the length to tell it, which is more than
    /// was written if there was not room enough.
    pub(crate) fn write_to(&self, room: &mut [u8]) -> usize {
        let written = self.len.min(room.len());
        room[..written].copy_from_slice(&self.bytes[..written]);
        self.len
    }
}

impl From<AddressRef<'_>> for SocketName {
    fn from(address: AddressRef<'_>) -> Self {
        let mut name = SocketName {
            bytes: [0; NAME_BYTES],
            len: 0,
        };
        match address {
            AddressRef::V4 { ip, port } => {
                name.begin(libc::AF_INET, INET_BYTES);
                name.bytes[2..4].copy_from_slice(&port.to_be_bytes());
                name.bytes[4..8].copy_from_slice(&ip);
            }
            AddressRef::V6 {
                ip,
                port,
                flowinfo,
                scope_id,
            } => {
                name.begin(libc::AF_INET6, INET6_BYTES);
                name.bytes[2..4].copy_from_slice(&port.to_be_bytes());
                name.bytes[4..8].copy_from_slice(&flowinfo.to_be_bytes());
                name.bytes[8..24].copy_from_slice(&ip);
                name.bytes[24..28].copy_from_slice(&scope_id.to_ne_bytes());
            }
            // With its final zero, which is there even after a path of 108 bytes, see unix(7).
            AddressRef::Path(path) => {
                let path = &path[..path.len().min(UNIX_BYTES - FAMILY_BYTES)];
                name.begin(libc::AF_UNIX, FAMILY_BYTES + path.len() + 1);
                name.bytes[FAMILY_BYTES..FAMILY_BYTES + path.len()].copy_from_slice(path);
            }
            AddressRef::Abstract(text) => {
                let text = &text[..text.len().min(UNIX_BYTES - FAMILY_BYTES - 1)];
                let start = FAMILY_BYTES + 1;
                name.begin(libc::AF_UNIX, start + text.len());
                name.bytes[start..start + text.len()].copy_from_slice(text);
            }
            AddressRef::Unnamed => name.begin(libc::AF_UNIX, FAMILY_BYTES),
        }
        name
    }
}

impl SocketName {
    fn begin(&mut self, family: i32, len: usize) {
        let family = u16::try_from(family).unwrap_or(0);
        self.bytes[..FAMILY_BYTES].copy_from_slice(&family.to_ne_bytes());
        self.len = len;
    }
}

/// The bytes of a slice of that length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// `sockaddr_storage`.
pub(crate) const NAME_BYTES: usize = 128;
const FAMILY_BYTES: usize = 2;
const INET_BYTES: usize = 16;
const INET6_BYTES: usize = 28;
const UNIX_BYTES: usize = 110;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SocketName {
        let address: Address = text.parse().unwrap();
        SocketName::from(AddressRef::from(&address))
    }

    #[test]
    fn a_name_survives_the_way_to_a_frame_and_back() {
        for text in [
            "127.0.0.1:8000",
            "[::1]:65535",
            "[fe80::1%7]:443",
            "unix:/run/app.sock",
            "unix:@app",
        ] {
            assert_eq!(name(text).address().unwrap().to_string(), text);
        }
        assert_eq!(
            SocketName::from(AddressRef::Unnamed).address(),
            Some(Address::Unnamed)
        );
    }

    #[test]
    fn the_lengths_are_those_of_the_kernel() {
        for (text, len) in [
            ("127.0.0.1:80", 16),
            ("[::1]:80", 28),
            ("unix:/a", 5),
            ("unix:@a", 4),
        ] {
            assert_eq!(name(text).bytes().len(), len, "{text}");
        }
        let longest = [b'x'; 108];
        let name = SocketName::from(AddressRef::Path(&longest));
        assert_eq!(name.bytes().len(), 111);
        assert_eq!(name.address(), Some(Address::Path(longest.to_vec())));
    }

    #[test]
    fn an_answer_is_cut_off_where_the_room_ends() {
        let name = name("127.0.0.1:8000");
        let mut room = [0xff; 6];
        assert_eq!(name.write_to(&mut room), 16);
        assert_eq!(room[..4], name.bytes()[..4]);
        assert_eq!(name.write_to(&mut []), 16);
    }

    #[test]
    fn what_is_too_short_is_no_address() {
        assert_eq!(SocketName::new(&[2, 0, 0]).address(), None);
        assert_eq!(SocketName::new(&[]).family(), libc::AF_UNSPEC);
        assert_eq!(SocketName::new(&[2, 0, 31, 64]).port(), None);
    }

    #[test]
    fn another_port_leaves_the_rest() {
        assert_eq!(name("[::1]:0").with_port(81), name("[::1]:81"));
    }
}
