//! Type-length-values: what a version 2 header says beside addresses. Passed on as they are; only
//! the checksum is looked at.

use super::crc32c::Crc32c;

/// The type-length-values of a header. Iterates over them in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// See [`kind`]; 0xe0 to 0xef are for applications.
    pub kind: u8,
    /// As it came.
    pub value: &'a [u8],
}

/// The types that have a meaning for everybody.
pub mod kind {
    /// The protocol that the client chose, such as `h2` (RFC 7301).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for, UTF-8 (SNI).
    pub const AUTHORITY: u8 = 0x02;
    /// CRC32C of the header; was verified.
    pub const CRC32C: u8 = 0x03;
    /// Nothing: for alignment.
    pub const NOOP: u8 = 0x04;
    /// What the balancer calls this connection, at most 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// A byte of flags, four of how the certificate was verified, and type-length-values of its
    /// own: read them with [`Tlvs::whole`](super::Tlvs::whole) of `value[5..]`.
    pub const SSL: u8 = 0x20;
    /// Within [`SSL`]: the version, such as `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// Within [`SSL`]: the common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Within [`SSL`]: the cipher.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Within [`SSL`]: how the client's certificate was signed.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// Within [`SSL`]: the key of the client's certificate.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// The network namespace.
    pub const NETNS: u8 = 0x30;
}

impl<'a> Tlvs<'a> {
    /// None at all.
    pub const NONE: Tlvs<'static> = Tlvs(&[]);

    /// These bytes, if they are whole type-length-values to the last.
    #[must_use]
    pub fn whole(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split(rest)?;
        }
        Some(Tlvs(bytes))
    }

    /// The bytes themselves.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the first of this [`kind`].
    #[must_use]
    pub fn find(&self, kind: u8) -> Option<&'a [u8]> {
        let mut tlvs = *self;
        tlvs.find_map(|tlv| (tlv.kind == kind).then_some(tlv.value))
    }

    /// Whether each checksum among them, of which there is seldom one, is that of `header`, whose
    /// end they are.
    pub(super) fn is_unharmed(self, header: &[u8]) -> bool {
        let mut rest = self;
        while let Some(tlv) = rest.next() {
            if tlv.kind != kind::CRC32C {
                continue;
            }
            let Ok(said) = <[u8; CRC_BYTES]>::try_from(tlv.value) else {
                return false;
            };
            let after = rest.0;
            let before = header.len() - after.len() - CRC_BYTES;
            // It stands at zero while it is computed.
            let mut crc = Crc32c::new();
            crc.add(&header[..before]);
            crc.add(&[0; CRC_BYTES]);
            crc.add(after);
            if crc.value() != u32::from_be_bytes(said) {
                return false;
            }
        }
        true
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (tlv, rest) = split(self.0)?;
        self.0 = rest;
        Some(tlv)
    }
}

fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let ([kind, high, low], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, rest) = rest.split_at_checked(len)?;
    Some((Tlv { kind: *kind, value }, rest))
}

const CRC_BYTES: usize = 4;
