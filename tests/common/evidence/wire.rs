//! What a client and the test worker say to each other: a request and an answer of fixed size,
//! each with a checksum.

/// The bytes of connection `id`'s request: its number, noise that nobody else sends, a checksum.
pub fn request(id: u32) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = (id.wrapping_mul(0x9E37_79B9) >> (place % 25)).to_le_bytes()[0];
    }
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    seal(&mut bytes);
    bytes
}

/// What a worker says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The connection that the request names.
    pub id: u32,
    /// Who answers.
    pub pid: u32,
    /// Which incarnation that is.
    pub worker: u64,
    /// The checksum of the request as it arrived.
    pub heard: u64,
}

impl Answer {
    /// To these bytes, from that worker.
    pub fn to(request: &[u8; REQUEST_BYTES], worker: u64, pid: u32) -> Self {
        Answer {
            id: u32::from_le_bytes(request[..4].try_into().expect("4 bytes")),
            pid,
            worker,
            heard: checksum(request),
        }
    }

    pub fn encode(self) -> [u8; ANSWER_BYTES] {
        let mut bytes = [0; ANSWER_BYTES];
        bytes[..4].copy_from_slice(&self.id.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.pid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.worker.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.heard.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// The answer to connection `id`'s request; `None` when a single bit of either is wrong.
    pub fn decode(bytes: &[u8; ANSWER_BYTES], id: u32) -> Option<Self> {
        let word = |from: usize| bytes[from..from + 8].try_into().expect("8 bytes");
        let half = |from: usize| bytes[from..from + 4].try_into().expect("4 bytes");
        let answer = Answer {
            id: u32::from_le_bytes(half(0)),
            pid: u32::from_le_bytes(half(4)),
            worker: u64::from_le_bytes(word(8)),
            heard: u64::from_le_bytes(word(16)),
        };
        let is_intact = answer.encode() == *bytes && answer.heard == checksum(&request(id));
        (is_intact && answer.id == id).then_some(answer)
    }
}

/// Writes the checksum of the rest into the last eight bytes.
fn seal(bytes: &mut [u8]) {
    let (rest, seal) = bytes.split_at_mut(bytes.len() - 8);
    seal.copy_from_slice(&checksum(rest).to_le_bytes());
}

/// FNV-1a, see <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub const REQUEST_BYTES: usize = 64;
pub const ANSWER_BYTES: usize = 32;
