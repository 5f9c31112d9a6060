use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The examples of `proxy-protocol.txt`.
#[test]
fn what_the_specification_shows_is_read() {
    let line = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
    assert_eq!(line.len(), 56, "its own number");
    assert_eq!(
        whole(line.as_bytes()),
        said("255.255.255.255:65535", "255.255.255.255:65535")
    );
    let six = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY TCP6 {six} {six} 65535 65535\r\n");
    assert_eq!(line.len(), 104, "its own number");
    let end = format!("[{six}]:65535");
    assert_eq!(whole(line.as_bytes()), said(&end, &end));
    let line = format!("PROXY UNKNOWN {six} {six} 65535 65535\r\n");
    assert_eq!(line.len(), MAX_V1_BYTES, "its own number");
    assert_eq!(whole(line.as_bytes()), (None, None));
    assert_eq!(whole(b"PROXY UNKNOWN\r\n"), (None, None));
    let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n";
    assert_eq!(whole(line), said("192.168.0.1:56324", "192.168.0.11:443"));
}

#[test]
fn version_two_is_read_field_by_field() {
    let four = v2(
        0x21,
        0x11,
        &[192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb],
    );
    assert_eq!(whole(&four), said("192.0.2.7:56324", "192.0.2.1:443"));
    let mut block = [0; 36];
    block[15] = 1;
    block[31] = 2;
    block[33] = 80;
    block[35] = 90;
    assert_eq!(whole(&v2(0x21, 0x21, &block)), said("[::1]:80", "[::2]:90"));
    let mut block = [0; 216];
    block[..4].copy_from_slice(b"/a/b");
    block[108..112].copy_from_slice(b"\0web");
    let (source, destination) = whole(&v2(0x21, 0x31, &block));
    assert_eq!(source, Some(Address::Path(b"/a/b".to_vec())));
    assert_eq!(destination, Some(Address::Abstract(b"web".to_vec())));
}

/// Its block is discarded, family and all.
#[test]
fn a_balancer_that_speaks_for_itself_names_nobody() {
    for (command, family) in [
        (0x20, 0x00),
        (0x20, 0x11),
        (0x20, 0xff),
        (0x21, 0x00),
        (0x21, 0x10),
    ] {
        for block in [&[][..], &[1, 2, 3], &[9; 200]] {
            let bytes = v2(command, family, block);
            assert_eq!(whole(&bytes), (None, None), "{command:#x} {family:#x}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused_for_what_it_is() {
    let four = [127, 0, 0, 1, 127, 0, 0, 1, 0, 1, 0, 2];
    let line = |text: &str| text.as_bytes().to_vec();
    for (bytes, malformed) in [
        (line("GET / HTTP/1.1\r\n"), Malformed::NoHeader),
        (line("PROXY\tTCP4"), Malformed::NoHeader),
        (line("proxy TCP4"), Malformed::NoHeader),
        (line("\r\n\r\n\0\r\nQUIT\r"), Malformed::NoHeader),
        (line("\x16\x03\x01"), Malformed::NoHeader),
        (
            line(&format!("PROXY UNKNOWN {}", "x".repeat(93))),
            Malformed::EndlessLine,
        ),
        (line("PROXY \r\n"), Malformed::Line),
        (line("PROXY UNKNOWNS\r\n"), Malformed::Line),
        (line("PROXY TCP4\r\n"), Malformed::Line),
        (line("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"), Malformed::Line),
        (line("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), Malformed::Line),
        (line("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"), Malformed::Line),
        (line("PROXY TCP4 1.2.3.4 1.2.3.4  1 2\r\n"), Malformed::Line),
        (
            line("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"),
            Malformed::Line,
        ),
        (line("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n"), Malformed::Line),
        (line("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), Malformed::Line),
        (line("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n"), Malformed::Line),
        (line("PROXY TCP4 ::1 ::1 1 2\r\n"), Malformed::Line),
        (line("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"), Malformed::Line),
        (line("PROXY TCP6 ::1%1 ::1 1 2\r\n"), Malformed::Line),
        (
            line("PROXY TCP4 localhost 1.2.3.4 1 2\r\n"),
            Malformed::Line,
        ),
        (
            line("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n"),
            Malformed::Line,
        ),
        (v2(0x11, 0x11, &four), Malformed::Version(1)),
        (v2(0x31, 0x11, &four), Malformed::Version(3)),
        (v2(0x22, 0x11, &four), Malformed::Command(2)),
        (v2(0x21, 0x41, &four), Malformed::Family(0x41)),
        (v2(0x21, 0x13, &four), Malformed::Family(0x13)),
        (v2(0x21, 0x11, &four[..11]), Malformed::ShortAddresses),
        (v2(0x21, 0x21, &[0; 35]), Malformed::ShortAddresses),
        (v2(0x21, 0x31, &[0; 215]), Malformed::ShortAddresses),
        (v2(0x21, 0x11, &[0; 4081]), Malformed::TooLong(4097)),
        (v2(0x21, 0x11, &[&four[..], &[4]].concat()), Malformed::Tlv),
        (
            v2(0x21, 0x11, &[&four[..], &[4, 0, 2, 0]].concat()),
            Malformed::Tlv,
        ),
        (
            v2(0x21, 0x11, &[&four[..], &[3, 0, 0]].concat()),
            Malformed::Checksum,
        ),
        (
            v2(0x21, 0x11, &[&four[..], &[3, 0, 4, 0, 0, 0, 0]].concat()),
            Malformed::Checksum,
        ),
    ] {
        assert_eq!(parse(&bytes), Err(malformed), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_checksum_is_that_of_the_header_around_it() {
    let tlvs = [
        &[kind::ALPN, 0, 2][..],
        b"h2",
        &[kind::CRC32C, 0, 4, 0, 0, 0, 0, kind::NOOP, 0, 0],
    ];
    let block = [
        &[127, 0, 0, 1, 127, 0, 0, 1, 0, 1, 0, 2],
        &tlvs.concat()[..],
    ]
    .concat();
    let mut bytes = v2(0x21, 0x11, &block);
    let at = bytes.len() - 7;
    let mut crc = crc32c::Crc32c::new();
    crc.add(&bytes);
    bytes[at..at + 4].copy_from_slice(&crc.value().to_be_bytes());
    let Ok(Parsed::Whole { header, .. }) = parse(&bytes) else {
        panic!("{:?}", parse(&bytes));
    };
    assert_eq!(header.tlvs.find(kind::ALPN), Some(&b"h2"[..]));
    assert_eq!(header.tlvs.find(kind::AUTHORITY), None);
    assert_eq!(header.tlvs.count(), 3);
    // A bit of an address, which no other check would find.
    bytes[18] ^= 1;
    assert_eq!(parse(&bytes), Err(Malformed::Checksum));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_not_a_byte_more(
        header in any_header(),
        rest in vec(any::<u8>(), 0..40),
    ) {
        let (version, source, destination, names, tlvs) = header;
        let names = [UnixName::new(&names[0]), UnixName::new(&names[1])];
        let origin = match (source, destination) {
            (Some(source), Some(destination)) => Origin::Inet { source, destination },
            (Some(_), None) => Origin::Unix { source: names[0], destination: names[1] },
            (None, Some(_)) => Origin::Balancer,
            (None, None) => Origin::Unknown,
        };
        let tlvs = match origin {
            Origin::Inet { .. } | Origin::Unix { .. } if version == Version::V2 => {
                Tlvs::whole(&tlvs).unwrap()
            }
            Origin::Balancer | Origin::Unknown | Origin::Inet { .. } | Origin::Unix { .. } => Tlvs::NONE,
        };
        let header = Header { version, origin, tlvs };
        let Some(bytes) = header.encode() else {
            return Ok(());
        };
        let len_bytes = bytes.len();
        for len in 0..len_bytes {
            prop_assert_eq!(parse(&bytes[..len]), Ok(Parsed::Partial));
        }
        let with_rest = [bytes, rest].concat();
        prop_assert_eq!(parse(&with_rest), Ok(Parsed::Whole { header, len_bytes }));
    }
}

type Parts = (
    Version,
    Option<SocketAddr>,
    Option<SocketAddr>,
    [[u8; UNIX_NAME_BYTES]; 2],
    Vec<u8>,
);

fn any_header() -> impl Strategy<Value = Parts> {
    let version = prop_oneof![Just(Version::V1), Just(Version::V2)];
    let name = vec(any::<u8>(), UNIX_NAME_BYTES)
        .prop_map(|bytes| <[u8; UNIX_NAME_BYTES]>::try_from(bytes).unwrap());
    let tlv = (4..=255_u8, vec(any::<u8>(), 0..30)).prop_map(|(kind, value)| {
        let len = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind], &len[..], &value].concat()
    });
    let tlvs = vec(tlv, 0..4).prop_map(|tlvs| tlvs.concat());
    let address = || {
        let four = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
        let six = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
        prop_oneof![four, six]
    };
    (
        version,
        proptest::option::of(address()),
        proptest::option::of(address()),
        [name.clone(), name],
        tlvs,
    )
}

/// Source and destination of a header that is whole.
fn whole(bytes: &[u8]) -> (Option<Address>, Option<Address>) {
    match parse(bytes) {
        Ok(Parsed::Whole { header, .. }) => (header.origin.source(), header.origin.destination()),
        other => panic!("{other:?}"),
    }
}

fn said(source: &str, destination: &str) -> (Option<Address>, Option<Address>) {
    let address = |text: &str| Some(text.parse().unwrap());
    (address(source), address(destination))
}

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = v2::SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    bytes.extend(block);
    bytes
}
