//! A WebSocket client, as far as short text messages need one: RFC 6455.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::common::client::{connect, read_response};

pub(crate) struct WebSocket(BufReader<TcpStream>);

impl WebSocket {
    /// An HTTP connection that becomes one.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut stream = BufReader::new(connect(address).expect("connect"));
        let request = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.get_mut().write_all(request.as_bytes()).expect("ask");
        let answer = read_response(&mut stream).expect("an answer");
        assert_eq!(answer.status, 101, "{answer:?}");
        // The key and the answer of the RFC, section 1.3.
        assert_eq!(
            answer.headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        WebSocket(stream)
    }

    /// Sends a message; answers the next one.
    pub(crate) fn echo(&mut self, message: &str) -> String {
        let length = u8::try_from(message.len()).expect("a short message");
        let masked = message.bytes().zip(MASK.iter().cycle());
        let masked: Vec<u8> = masked.map(|(byte, mask)| byte ^ mask).collect();
        let frame = [&[FINAL_TEXT, MASKED | length], &MASK[..], &masked].concat();
        self.0.get_mut().write_all(&frame).expect("send");

        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        assert_eq!(head[0], FINAL_TEXT);
        let mut message = vec![0; head[1].into()];
        self.0.read_exact(&mut message).expect("a message");
        String::from_utf8(message).expect("text")
    }
}

const FINAL_TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
