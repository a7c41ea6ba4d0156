//! Small databases in MaxMind's format: a binary tree of records, what they point to, and a description.

use std::net::IpAddr;

/// A value of a record.
pub(crate) enum Value {
    Text(&'static str),
    U16(u16),
    U32(u32),
    U64(u64),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_text(text, out),
            Self::U16(number) => write_number(5, &number.to_be_bytes(), out),
            Self::U32(number) => write_number(6, &number.to_be_bytes(), out),
            Self::U64(number) => write_number(9, &number.to_be_bytes(), out),
            Self::List(values) => {
                write_head(11, values.len(), out);
                values.iter().for_each(|value| value.write(out));
            }
            Self::Map(pairs) => {
                write_head(7, pairs.len(), out);
                for (key, value) in pairs {
                    write_text(key, out);
                    value.write(out);
                }
            }
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_head(2, text.len(), out);
    out.extend(text.as_bytes());
}

/// Without the zeros in front.
fn write_number(code: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    write_head(code, bytes.len() - zeros, out);
    out.extend(&bytes[zeros..]);
}

/// The type and the length, which has a byte of its own from 29 on. Types above 7 have one, too.
fn write_head(code: u8, len: usize, out: &mut Vec<u8>) {
    let len = u8::try_from(len).unwrap();
    let first = if code > 7 { 0 } else { code << 5 };
    out.push(first | len.min(29));
    if code > 7 {
        out.push(code - 7);
    }
    if len >= 29 {
        out.push(len - 29);
    }
}

/// Where a branch leads to.
#[derive(Clone, Copy)]
enum Record {
    Nowhere,
    Node(usize),
    /// An offset into the data.
    Data(usize),
}

pub(crate) struct Writer {
    database_type: &'static str,
    ip_version: u16,
    record_size: u16,
    nodes: Vec<[Record; 2]>,
    data: Vec<u8>,
}

impl Writer {
    /// A database of addresses of IPv4 and IPv6.
    pub(crate) fn new(database_type: &'static str) -> Self {
        Self {
            database_type,
            ip_version: 6,
            record_size: 24,
            nodes: vec![[Record::Nowhere; 2]],
            data: Vec::new(),
        }
    }

    /// One of IPv4 addresses alone.
    pub(crate) fn of_v4(database_type: &'static str) -> Self {
        Self {
            ip_version: 4,
            ..Self::new(database_type)
        }
    }

    /// With records of so many bits.
    pub(crate) fn with_record_size(self, bits: u16) -> Self {
        Self {
            record_size: bits,
            ..self
        }
    }

    /// Adds a network, as in `("192.0.2.0", 24)`, which no other one may be in.
    pub(crate) fn add(&mut self, first: &str, prefix_len: u8, record: &Value) {
        let is_added = self.try_add(first.parse().unwrap(), prefix_len, record);
        assert!(is_added, "{first}/{prefix_len} is in another network");
    }

    /// The same, if no other one is in it nor it in another one. Whether it was added.
    pub(crate) fn try_add(&mut self, first: IpAddr, prefix_len: u8, record: &Value) -> bool {
        let data = self.data.len();
        record.write(&mut self.data);
        self.set(first, prefix_len, Record::Data(data))
    }

    /// Has all IPv4 networks that were added, and will be, in this one of IPv6 too.
    pub(crate) fn embed_v4(&mut self, first: &str, prefix_len: u8) {
        let mut v4 = 0;
        for _ in 0..96 {
            let Record::Node(next) = self.nodes[v4][0] else {
                panic!("there is no network of IPv4");
            };
            v4 = next;
        }
        assert!(self.set(first.parse().unwrap(), prefix_len, Record::Node(v4)));
    }

    fn set(&mut self, first: IpAddr, prefix_len: u8, record: Record) -> bool {
        // IPv4 is at ::/96 where there is IPv6 too.
        let (bits, len) = match (first, self.ip_version) {
            (IpAddr::V4(first), 4) => (u128::from(first.to_bits()) << 96, prefix_len),
            (IpAddr::V4(first), _) => (u128::from(first.to_bits()), 96 + prefix_len),
            (IpAddr::V6(first), _) => (first.to_bits(), prefix_len),
        };
        let mut node = 0;
        for depth in 0..len {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            let is_last = depth + 1 == len;
            node = match self.nodes[node][side] {
                Record::Nowhere if is_last => {
                    self.nodes[node][side] = record;
                    return true;
                }
                Record::Node(next) if !is_last => next,
                Record::Nowhere => {
                    self.nodes.push([Record::Nowhere; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Record::Node(next);
                    next
                }
                Record::Node(_) | Record::Data(_) => return false,
            };
        }
        unreachable!("no network is everything")
    }

    /// The bytes of its file.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let mut out = Vec::new();
        let number = |record: Record| {
            let number = match record {
                Record::Nowhere => count,
                Record::Node(node) => node,
                Record::Data(offset) => count + 16 + offset,
            };
            assert!(number < 1 << 24, "a record has 24 bits at least");
            u32::try_from(number).unwrap()
        };
        for [left, right] in self.nodes.iter().copied() {
            let [left, right] = [number(left), number(right)];
            let (left, right) = (left.to_be_bytes(), right.to_be_bytes());
            match self.record_size {
                24 => out.extend([&left[1..], &right[1..]].concat()),
                // The upper four bits of both share a byte.
                28 => {
                    out.extend(&left[1..]);
                    out.push(left[0] << 4 | right[0]);
                    out.extend(&right[1..]);
                }
                _ => out.extend([left, right].concat()),
            }
        }
        out.extend([0; 16]);
        out.extend(&self.data);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        Value::Map(vec![
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(BUILT)),
            ("database_type", Value::Text(self.database_type)),
            (
                "description",
                Value::Map(vec![("en", Value::Text("a test"))]),
            ),
            ("ip_version", Value::U16(self.ip_version)),
            ("languages", Value::List(vec![Value::Text("en")])),
            ("node_count", Value::U32(u32::try_from(count).unwrap())),
            ("record_size", Value::U16(self.record_size)),
        ])
        .write(&mut out);
        out
    }
}

/// When these databases were made, in seconds since 1970.
pub(crate) const BUILT: u64 = 1_700_000_000;
